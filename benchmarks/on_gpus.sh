#!/bin/sh
# What docs/results/scale.md lacks, measured on a machine with GPUs in one go.
#
#     sh benchmarks/on_gpus.sh [PYTHON] | tee gpus.txt
#
# Run it in the checkout, whose .venv has jax[cuda13]. PYTHON is an interpreter with torch and torchvision for CUDA, in
# an environment of its own; without it PyTorch is left out. With $TFDS_DATA_DIR, which holds CIFAR-10, a run to 94 %.
# Beside PyTorch one GPU holds three processes, at 256 images: where it has less than 80 GB, set BATCH=64.
set -e
python=.venv/bin/python
torch=${1:+--torch $1}
batch=${BATCH:+--batch $BATCH}
count=$($python -c 'import jax; print(jax.local_device_count() if jax.default_backend() == "gpu" else 0)')
if [ "$count" = 0 ]; then
    echo 'error: JAX finds no GPU: .venv/bin/pip install "jax[cuda13]==0.10.2"' >&2
    exit 2
fi
nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv || true
nvidia-smi topo -m || true

echo '## One GPU, and PyTorch'
$python benchmarks/scaling.py --devices 1 --models resnet20 resnet50 --modes pmap jit \
    --precisions float32 bfloat16 --rounds 7 --steps 20 $batch $torch
echo '## One GPU, memory'
$python benchmarks/scaling.py --devices 1 --models resnet50 --modes pmap --precisions bfloat16 --remat no yes \
    --rounds 5 --steps 20 $batch

if [ "$count" -gt 1 ]; then
    echo '## Many GPUs, 256 images each'
    $python benchmarks/scaling.py --devices 1 2 4 8 --models resnet50 --precisions bfloat16 --rounds 5 --steps 20 \
        --modes pmap 'pmap, BatchNorm per device' jit 'jit, fsdp'
fi

echo '## A trace of five steps'
$python launch.py --config experiments/digits_lenet.py --workdir runs/on_gpus_trace --config.total='200 steps' \
    --config.profile.start_step=100 --config.profile.steps=5
if [ -n "$TFDS_DATA_DIR" ]; then
    echo '## CIFAR-10 to 94 %'
    $python launch.py --config experiments/cifar10_resnet.py:gpu --workdir runs/on_gpus_cifar10
fi
