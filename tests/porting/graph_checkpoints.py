"""Checkpoints of TF 1's Saver with moving averages and an optimizer, for `test_load.py`.

    python graph_checkpoints.py FOLDER

Writes net.ckpt (V2), net_v1.ckpt (one file), plain.ckpt (without averages), and net.npz: an input,
the output of the variables and that of their averages.
"""

from __future__ import annotations

import os
import sys

os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import numpy as np
import tensorflow as tf

tf1 = tf.compat.v1
RANDOM = np.random.default_rng(0)


def variable(name, *shape, low=-1.0, trainable=True):
    value = RANDOM.uniform(low, 1, shape).astype("f4")
    return tf1.get_variable(name, initializer=value, trainable=trainable)


def normalized(x, channels):
    with tf1.variable_scope("BatchNorm"):
        gamma, beta = variable("gamma", channels, low=0.5), variable("beta", channels)
        mean = variable("moving_mean", channels, trainable=False)
        variance = variable("moving_variance", channels, low=0.5, trainable=False)
    return tf.nn.batch_normalization(x, mean, variance, beta, gamma, 1e-3)


def network(x):
    """A dense, a depthwise and a pointwise convolution, and a matrix, named as slim names them."""
    with tf1.variable_scope("Net"):
        with tf1.variable_scope("Conv2d_0"):
            x = tf.nn.conv2d(x, variable("weights", 3, 3, 3, 4), 2, "SAME")
            x = tf.nn.relu6(normalized(x, 4))
        with tf1.variable_scope("Conv2d_1_depthwise"):
            x = tf.nn.depthwise_conv2d(
                x, variable("depthwise_weights", 3, 3, 4, 2), [1, 1, 1, 1], "SAME"
            )
            x = tf.nn.relu6(normalized(x, 8))
        with tf1.variable_scope("Conv2d_1_pointwise"):
            x = tf.nn.conv2d(x, variable("weights", 1, 1, 8, 5), 1, "SAME")
            x = tf.nn.bias_add(x, variable("biases", 5))
        with tf1.variable_scope("Logits/Conv2d_1c_1x1"):
            x = tf.reduce_mean(x, [1, 2], keepdims=True)
            x = tf.nn.conv2d(x, variable("weights", 1, 1, 5, 3), 1, "SAME")
            return tf.squeeze(tf.nn.bias_add(x, variable("biases", 3)), [1, 2])


def main(folder):
    tf1.disable_eager_execution()
    images = RANDOM.normal(size=(2, 8, 8, 3)).astype("f4")
    holder = tf1.placeholder(tf.float32, (None, 8, 8, 3))
    output = network(holder)
    step = tf1.train.get_or_create_global_step()
    plain = tf1.train.Saver(tf1.global_variables())
    train = tf1.train.AdamOptimizer(0.1).minimize(
        tf.reduce_sum(output**2), var_list=tf1.trainable_variables(), global_step=step
    )
    averages = tf1.train.ExponentialMovingAverage(0.5)
    averaged = tf1.trainable_variables() + [v for v in tf1.global_variables() if "moving" in v.name]
    with tf1.control_dependencies([train]):
        update = averages.apply(averaged)
    with tf1.Session() as session:
        session.run(tf1.global_variables_initializer())
        plain.save(session, f"{folder}/plain.ckpt")
        for _ in range(3):
            session.run(update, {holder: images})
        tf1.train.Saver().save(session, f"{folder}/net.ckpt")
        v1 = tf1.train.Saver(write_version=tf1.train.SaverDef.V1)
        v1.save(session, f"{folder}/net_v1.ckpt")
        own = session.run(output, {holder: images})
        session.run([v.assign(averages.average(v)) for v in averaged])
        average = session.run(output, {holder: images})
    np.savez(f"{folder}/net.npz", images=images, own=own, average=average)


if __name__ == "__main__":
    main(*sys.argv[1:])
