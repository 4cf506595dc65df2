"""Packaging of ctr_tf: the library, its Beam pipelines and its serving tools."""

from setuptools import find_packages, setup

setup(
    name="ctr_tf",
    version="0.1.0",
    description="A training stack for click-through-rate prediction in TensorFlow and Keras.",
    python_requires=">=3.11,<3.12",
    packages=find_packages(include=["ctr_tf*", "pipelines*", "serving*"]),
    package_data={"ctr_tf": ["evaluation/*.jinja"], "serving": ["templates/*.jinja"]},
    install_requires=[
        "apache-beam[dask,tfrecord]>=2.77,<3",
        "grpcio>=1.70",
        "grpcio-health-checking>=1.70",
        "jinja2>=3.1",
        "keras>=3.15,<4",
        "matplotlib>=3.9",
        "numpy>=2",
        "prometheus-client>=0.22",
        "protobuf>=6.31,<7",
        "pyarrow>=17",
        "pydantic>=2.12,<3",
        "pyyaml>=6",
        "rich>=13",
        "tensorboard>=2.21,<2.22",
        "tensorflow>=2.21,<2.22",
        "tensorflow-recommenders>=0.7.7,<0.8",
        "tensorflow-serving-api>=2.21,<2.22",
        "tensorflow-text>=2.21,<2.22",
        "tf-keras>=2.21,<2.22",
        "typer>=0.15",
    ],
    extras_require={
        "test": [
            "hypothesis>=6.130",
            "pytest>=8",
            "pytest-xdist>=3.6",
            "ruff>=0.9",
            "scikit-learn>=1.6",
            "trustme>=1.2",
        ],
    },
    entry_points={"console_scripts": ["ctr-tf=ctr_tf.cli:main"]},
)
