"""Installs the package; gin/ and tools/ come along as tf_advseg._gin and tf_advseg.tools."""
import pathlib
import re

from setuptools import find_packages, setup

HERE = pathlib.Path(__file__).resolve().parent
VERSION = re.search(r"^__version__ = '([^']+)'",
                    (HERE / 'tf_advseg' / '__init__.py').read_text(encoding='utf-8'), re.M)[1]
README = HERE / 'README.md'
TOOLS = ('train', 'evaluate', 'predict', 'prepare_data', 'inspect_run', 'benchmark', 'sweep',
         'demo', 'import_checkpoint', 'export', 'doctor', 'confidence', 'gpu_check', 'browse',
         'reproduce')

setup(
    name='tf_advseg',
    version=VERSION,
    description='Adversarial training of semantic segmentation in TensorFlow 2 / Keras: LoAd',
    long_description=README.read_text(encoding='utf-8') if README.is_file() else '',
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.9,<3.14',
    # gin/ has no __init__.py: it holds data and is never imported.
    packages=[*find_packages(include=['tf_advseg', 'tf_advseg.*']),
              'tf_advseg.tools', 'tf_advseg._gin'],
    package_dir={'tf_advseg': 'tf_advseg', 'tf_advseg.tools': 'tools', 'tf_advseg._gin': 'gin'},
    package_data={'tf_advseg': ['py.typed'],  # checkers read the annotations of tf_advseg.load
                  'tf_advseg._gin': ['*.gin', '**/*.gin', '**/*.cells'],
                  'tf_advseg.data': ['split_lists/*.json', '*.md'],
                  'tf_advseg.evaluation': ['*.md'],
                  'tf_advseg.reporting.pages': ['templates/*.html']},
    install_requires=[
        # Two lanes, see tf_advseg/core/lanes.py.
        # The reference lane: tensorflow-addons ends at TensorFlow 2.15 and Python 3.11.
        'tensorflow==2.15.1; python_version < "3.12"',
        'tensorflow-addons==0.23.0; python_version < "3.12"',
        # keras-cv pulls it; later ones need protobuf 5, TensorFlow 2.15 needs 4.
        'tensorflow-metadata<1.18; python_version < "3.12"',
        'setuptools<81; python_version < "3.12"',  # TensorBoard 2.15 imports pkg_resources
        'numpy<2; python_version < "3.12"',
        # The current lane: Keras 2 is a package of its own there, TensorBoard no dependency.
        'tensorflow==2.21.0; python_version >= "3.12"',
        'tf-keras==2.21.0; python_version >= "3.12"',
        'tensorboard>=2.21; python_version >= "3.12"',  # earlier ones import pkg_resources
        'numpy; python_version >= "3.12"',
        'keras-cv==0.9.0',
        'absl-py',
        'gin-config==0.5.0',
        'flatbuffers',  # comes with TensorFlow too; models/zoo/tflite_graph.py edits files with it
        'h5py',  # comes with TensorFlow too; models/zoo/keras_h5.py reads with it
        'jinja2',  # the HTML pages: templates that escape every value
        'pillow',
        'matplotlib',
        'scipy',  # SBD's .mat files; distance transforms and components; Student's t
        'tqdm',
    ],
    extras_require={
        'gpu': ['tensorflow[and-cuda]==2.15.1; python_version < "3.12"',
                'tensorflow[and-cuda]==2.21.0; python_version >= "3.12"'],
        # The interpreter of TFLite files that is kept up; TensorFlow has its own.
        'lite': ['ai-edge-litert'],
        # 1.18 and later of onnx need an ml_dtypes that TensorFlow 2.15 does not work with.
        # tf2onnx of Python 3.9 needs protobuf 3.
        'onnx': ['tf2onnx; python_version >= "3.10"', 'onnxruntime; python_version >= "3.10"',
                 'onnx<1.18; python_version >= "3.10" and python_version < "3.12"',
                 'onnx; python_version >= "3.12"'],
        # Where `train --track` writes to. mlflow alone, without a server, needs the whole package.
        'wandb': ['wandb'],
        'mlflow': ['mlflow'],
        # `sweep --on=ray`: cells on several machines or GPUs.
        # pyarrow comes with keras-cv, and Ray loads it: 26 needs NumPy 2.
        'ray': ['ray', 'pyarrow<26; python_version < "3.12"'],
        # ffmpeg, for films; it comes with its encoders.
        'video': ['imageio-ffmpeg'],
        # The last two are whom the measures are compared with.
        'test': ['pytest', 'pytest-xdist', 'hypothesis', 'scikit-learn', 'cityscapesscripts',
                 'ai-edge-litert', 'imageio-ffmpeg', 'tf2onnx; python_version >= "3.10"',
                 'onnxruntime; python_version >= "3.10"',
                 'onnx<1.18; python_version >= "3.10" and python_version < "3.12"',
                 'onnx; python_version >= "3.12"'],
    },
    entry_points={'console_scripts': [
        f'tf-advseg-{tool.replace("_", "-")} = tf_advseg.tools.{tool}:run' for tool in TOOLS]},
    classifiers=[
        'License :: OSI Approved :: Apache Software License',
        'Programming Language :: Python :: 3.9',
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Programming Language :: Python :: 3.13',
        'Topic :: Scientific/Engineering :: Image Recognition',
    ],
)
