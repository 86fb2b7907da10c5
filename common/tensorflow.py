"""TensorFlow, which only data sets and TensorBoard need."""

from .threads import import_lock


def import_tensorflow():
    """Imports TensorFlow with all GPUs hidden from it: it would take their memory from JAX."""
    with import_lock:
        import tensorflow as tf
    tf.config.set_visible_devices([], 'GPU')
    tf.get_logger().setLevel('ERROR')
    return tf
