"""Character-level text generation with truncated backpropagation through time; read config.py, data.py, model.py, train.py."""
