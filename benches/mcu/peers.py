"""The policy 17-256-256-6 with seeded random weights for the other engines: .tflite files, emlearn's header, and what the
wheel of TensorFlow Lite Micro says of its memory. Writes into the folder in which it is started; `peers.sh` starts it."""

import os

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import emlearn
import numpy as np
import tensorflow as tf
from sklearn.neural_network import MLPRegressor
from tflite_micro.python.tflite_micro import runtime

WIDTHS = (17, 256, 256, 6)
draws = np.random.default_rng(25)
layers = [
    (draws.normal(0, np.sqrt(2 / a), (a, b)).astype("f4"), draws.normal(0, 0.1, b).astype("f4"))
    for a, b in zip(WIDTHS, WIDTHS[1:])
]
rows = draws.normal(size=(200, WIDTHS[0])).astype("f4")
observation = (0.1 * np.arange(WIDTHS[0]) - 0.8)[None].astype("f4")

values = observation
for index, (weights, bias) in enumerate(layers):
    values = values @ weights + bias
    values = np.maximum(values, 0) if index < 2 else values
print("wanted:", np.round(values, 6))

network = tf.keras.Sequential([tf.keras.Input(WIDTHS[:1], batch_size=1)])
for index, width in enumerate(WIDTHS[1:]):
    network.add(tf.keras.layers.Dense(width, activation="relu" if index < 2 else None))
for layer, numbers in zip(network.layers, layers):
    layer.set_weights(numbers)
with open("f32.tflite", "wb") as file:
    file.write(tf.lite.TFLiteConverter.from_keras_model(network).convert())
converter = tf.lite.TFLiteConverter.from_keras_model(network)
converter.optimizations = [tf.lite.Optimize.DEFAULT]
converter.representative_dataset = lambda: [[row[None]] for row in rows]
converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
converter.inference_input_type = converter.inference_output_type = tf.int8
# microflow reads one scale per matrix.
converter._experimental_disable_per_channel = True
converter._experimental_disable_per_channel_quantization_for_dense_layers = True
with open("int8.tflite", "wb") as file:
    file.write(converter.convert())

for name in ("f32.tflite", "int8.tflite"):
    interpreter = runtime.Interpreter.from_file(name)
    print(f"TensorFlow Lite Micro, {name}: {os.path.getsize(name)} B", flush=True)
    interpreter.print_allocations()

regressor = MLPRegressor(hidden_layer_sizes=WIDTHS[1:-1], activation="relu", max_iter=1)
regressor.fit(rows, draws.normal(size=(len(rows), WIDTHS[-1])))
regressor.coefs_ = [weights.astype("f8") for weights, _ in layers]
regressor.intercepts_ = [bias.astype("f8") for _, bias in layers]
emlearn.convert(regressor, method="inline").save(file="policy.h", name="policy")
