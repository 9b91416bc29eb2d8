"""Fitted scikit-learn models as plain data, and their scoring in numpy alone.

``compile`` reads a fitted model, ``compiled`` keeps what was read, ``scorer`` scores with it, ``agreement`` proves
that both answer alike; ``onnx`` takes over deep forests where that is faster. Only ``compile`` and ``agreement``
need scikit-learn, and only ``onnx`` needs ONNX or its runtime.
"""
