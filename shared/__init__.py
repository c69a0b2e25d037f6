"""The layer that all apps stand on. It imports no app.

rnn             stacks and heads of SimpleRNN, GRU and LSTM; which kernel runs, and why not cuDNN
bptt            truncated backpropagation through time: contiguous batches; TruncatedBPTT owns the recurrent state
gradients       clipping inside the optimizer; GradientMonitor
through_time    GradientThroughTime: how far back in time the gradient reaches
recall          make gradients: recall of a symbol after a lag, cell by cell
data            where a dataset comes from; fingerprints
download        a public file, downloaded once: resumable, checked, unpacked
batches         batches by length, prepared while the network computes
comparison      is the lead over the baseline more than chance? paired bootstrap
training        seeds, precision, devices, standard callbacks, resume, Ctrl-C
classification  measures and plots of a classifier's probabilities
tables          the user's own tables as text: CSV and its kin, JSON Lines
plots           plots that every app has
report          what every run says at its end: report.md, and a table in the terminal
runs            the run folder; finding the newest; the table of all runs
check           make <app>-check: what the data holds, what speaks against training on it, minutes of each preset
rehearsal       a training that stops after a few steps: how long it would take
doctor          make doctor: what this machine has, and what runs on it
bench           make bench: all apps, some seeds, one table
make            the arguments behind ARGS= as they were typed
new             make new: copy an app, to make it yours
eject           make eject: an app as a repository of its own
cli             a Config dataclass becomes the command line; errors that a user can fix
quiet           TensorFlow is imported without its remarks
"""

from shared import quiet

quiet.install()
