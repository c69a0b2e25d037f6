"""Weather forecasting with intervals; read config.py, data.py, windows.py, model.py, train.py."""
