"""Spoken-command recognition from MFCC features; read config.py, data.py, features.py, model.py, train.py."""
