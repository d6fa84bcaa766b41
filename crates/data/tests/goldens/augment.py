"""Writes what Pillow, torchvision and Keras make of two small images, for the cores of augmentation.

    pip install pillow==13.0.0 torchvision==0.29.2 keras==3.15.1 safetensors
    KERAS_BACKEND=torch python augment.py

augment.safetensors:
    image/L, image/RGB                          the images, uint8 (H, W, C)
    rotate/<mode>/<interpolation>/<fill>/<degrees>   torchvision's rotate on Pillow images
    affine/<mode>/<fill>/<a,b,c,d,e,f>          Pillow's Image.transform, bilinear
    flip/<mode>/<h or v>
    crop/<mode>/<pad mode>/<padding>/<top>/<left>    torchvision's pad, then crop
    resized/<mode>/<filter>/<top,left,height,width>  torchvision's resized_crop
    brightness, contrast, saturation, hue/<mode>/<factor>
    keras/<mode>/<fill mode>/<a,b,c,d,e,f>      keras.ops.image.affine_transform, bilinear, float32; the coefficients
                                                are those of pixel centers at (x + 1/2, y + 1/2), as Pillow has them
    colors/hue/<factor>                         4,096 colors, hue turned
"""

import math
from pathlib import Path

import keras
import numpy as np
from PIL import Image
from safetensors.numpy import save_file
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

HERE = Path(__file__).parent
rng = np.random.RandomState(5)
y, x = np.mgrid[:13, :18]
waves = np.stack([127 + 90 * np.sin(0.5 * x + c) + 60 * np.cos(0.4 * y * (c + 1)) for c in range(3)], -1)
rgb = (waves + 20 * rng.standard_normal(waves.shape)).clip(0, 255).astype(np.uint8)
images = {"L": Image.fromarray(rgb[..., 1].copy()), "RGB": Image.fromarray(rgb)}
golden = {}


def array(image):
    values = np.asarray(image)
    return np.ascontiguousarray(values[..., None] if values.ndim == 2 else values)


def text(numbers):
    return ",".join(repr(float(number)) for number in numbers)


def about_center(a, b, d, e, size):
    width, height = size
    cx, cy = width / 2, height / 2
    return a, b, a * -cx + b * -cy + cx, d, e, d * -cx + e * -cy + cy


def keras_affine(image, coefficients, fill_mode):
    # Keras puts pixels' centers at whole numbers.
    a, b, c, d, e, f = coefficients
    c, f = c + a / 2 + b / 2 - 0.5, f + d / 2 + e / 2 - 0.5
    values = array(image)[None].astype("float32")
    transform = np.array([[a, b, c, d, e, f, 0, 0]], "float32")
    moved = keras.ops.image.affine_transform(
        values, transform, interpolation="bilinear", fill_mode=fill_mode, data_format="channels_last"
    )
    return np.asarray(moved[0])


INTERPOLATIONS = {"nearest": InterpolationMode.NEAREST, "bilinear": InterpolationMode.BILINEAR}
FILTERS = {
    "bilinear": InterpolationMode.BILINEAR,
    "bicubic": InterpolationMode.BICUBIC,
    "lanczos": InterpolationMode.LANCZOS,
}
for mode, image in images.items():
    size = image.size
    golden[f"image/{mode}"] = array(image)
    for name, interpolation in INTERPOLATIONS.items():
        for fill, degrees in [(0, 10.0), (255, -7.5), (128, 33.25), (17, 90.0), (0, 180.0), (9, 271.0)]:
            turned = F.rotate(image, degrees, interpolation, fill=fill)
            golden[f"rotate/{mode}/{name}/{fill}/{degrees}"] = array(turned)
    turn = math.radians(12)
    maps = [
        about_center(1.2, 0, 0, 1.2, size),
        about_center(0.75, 0, 0, 0.75, size),
        (1, 0, -2.25, 0, 1, 1.5),
        (1, 0, 3, 0, 1, -2),
        about_center(-1.1 * math.cos(turn), math.sin(turn), -math.sin(turn), 0.9 * math.cos(turn), size),
    ]
    for coefficients in maps:
        for fill in (0, 200):
            color = fill if mode == "L" else (fill,) * 3
            moved = image.transform(size, Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR, fillcolor=color)
            golden[f"affine/{mode}/{fill}/{text(coefficients)}"] = array(moved)
        for fill_mode in ("nearest", "reflect", "wrap"):
            golden[f"keras/{mode}/{fill_mode}/{text(coefficients)}"] = keras_affine(image, coefficients, fill_mode)
    golden[f"flip/{mode}/h"] = array(F.hflip(image))
    golden[f"flip/{mode}/v"] = array(F.vflip(image))
    for pad_mode in ("constant", "edge", "reflect", "symmetric"):
        for padding, top, left in [(4, 0, 8), (4, 7, 1), (12, 24, 0)]:
            padded = F.pad(image, padding, fill=77, padding_mode=pad_mode)
            cropped = F.crop(padded, top, left, size[1], size[0])
            golden[f"crop/{mode}/{pad_mode}/{padding}/{top}/{left}"] = array(cropped)
    for name, interpolation in FILTERS.items():
        for part in [(0, 0, 13, 18), (2, 3, 7, 9), (5, 1, 3, 16), (1, 10, 12, 4)]:
            cut = F.resized_crop(image, *part, (size[1], size[0]), interpolation)
            golden[f"resized/{mode}/{name}/{','.join(map(str, part))}"] = array(cut)
    for factor in (0.0, 0.37, 0.8, 1.0, 1.25, 3.0):
        golden[f"brightness/{mode}/{factor}"] = array(F.adjust_brightness(image, factor))
        golden[f"contrast/{mode}/{factor}"] = array(F.adjust_contrast(image, factor))
        if mode == "RGB":
            golden[f"saturation/{mode}/{factor}"] = array(F.adjust_saturation(image, factor))
    if mode == "RGB":
        for factor in (-0.5, -0.13, 0.0, 0.07, 0.31, 0.5):
            golden[f"hue/{mode}/{factor}"] = array(F.adjust_hue(image, factor))

levels = np.arange(0, 256, 17, dtype=np.uint8)
colors = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(64, 64, 3)
for factor in (0.0, 0.2, -0.4):
    golden[f"colors/hue/{factor}"] = array(F.adjust_hue(Image.fromarray(colors), factor))

save_file(golden, HERE / "augment.safetensors")
print(len(golden), "arrays")
