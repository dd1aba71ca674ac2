"""Package metadata; build system and tool settings are in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="repaint",
    version="0.1.0",
    description="Photo restoration and inpainting with diffusion priors: RePaint and the pipeline around it",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11,<3.14",
    packages=find_packages(include=["repaint", "repaint.*"]),
    package_data={"repaint": ["weights/embedded/*.safetensors", "*.html.j2", "py.typed"]},
    entry_points={"console_scripts": ["repaint = repaint.__main__:main"]},
    install_requires=[
        "torch>=2.6",  # the networks
        "torchvision",  # facexlib and spandrel import it
        "numpy>=1.26",  # pixels between Pillow and torch
        "pillow>=11",  # 8-bit images, EXIF, ICC
        "pyvips[binary]>=3",  # 16-bit PNG and TIFF, which Pillow cannot hold in colour
        "scikit-image>=0.24",  # ridge filters, top-hats, classical fills to compare with
        "opencv-python>=4.10",  # facexlib aligns faces with it; classical fills to compare with
        "safetensors>=0.4",  # weights that cannot run code
        "pyyaml>=6",  # configs
        "pydantic>=2.8",  # configs, checked
        "typer>=0.15",  # the command line
        "rich>=13",  # progress and tables on a terminal
        "jinja2>=3.1",  # report.html
        "filelock>=3.25.2",  # one run per output folder, one fetch per file; also on mounts without flock
        "blobfile>=3",  # gs://, az:// and https:// paths
        "gdown>=5",  # weights on Google Drive
        "diffusers>=0.35",  # priors in diffusers folders
        "transformers>=4.50",  # diffusers names it where folders hold more than a prior
        "accelerate>=1",  # low-memory loading in diffusers, many GPUs in training
        "facexlib>=0.3",  # finding and aligning faces
        "spandrel>=0.4",  # upscalers and face restorers, told apart by their shapes
    ],
    extras_require={
        "realesrgan": ["realesrgan>=0.3", "basicsr>=1.4.2"],  # the original upscaler, behind a shim
        "codeformer": ["spandrel_extra_arches>=0.2"],  # restorers of faces under non-commercial licences
        "train": ["tensorboard>=2.15", "timm>=1"],  # curves; encoders by name
        "web": ["gradio>=6.20,<7"],  # the web page
        "dev": [
            *("pytest>=8", "pytest-xdist>=3.6", "hypothesis>=6", "ruff>=0.8", "pyright>=1.1.390"),
            *("tensorboard>=2.15", "timm>=1", "gradio>=6.20,<7"),
            *("piq>=0.8", "torchmetrics>=1"),  # benchmarks: figures
        ],
    },
    classifiers=[
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Image Processing",
    ],
)
