"""Writes one small image of every format and mode, and what Pillow makes of each.

    pip install pillow==13.0.0 numpy==2.4.6 safetensors timm torchvision
    python images.py

images/*          the image files
pillow.safetensors, for each file:
    <file>/L, <file>/RGB              Image.open(file).convert(mode), uint8 (H, W[, 3])
    resize/<mode>/<filter>/<W>x<H>/<file>   the same, resized to W x H
    timm/<crop_mode>/<file>/<W>x<H>/<pct>   timm's transform for evaluation, bicubic
"""

import struct
import sys
import zlib
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import save_file
from timm.data.transforms_factory import transforms_imagenet_eval

HERE = Path(__file__).parent
IMAGES = HERE / "images"
IMAGES.mkdir(exist_ok=True)
rng = np.random.RandomState(0)


def scene(height, width, channels, noise=0.0):
    """Waves of a few pixels' length, different in each channel."""
    y, x = np.mgrid[:height, :width].astype(float)
    planes = []
    for c in range(channels):
        a, b, phase = 0.11 + 0.07 * c, 0.17 - 0.05 * c, 1.3 * c
        planes.append(127.5 + 75 * np.sin(a * x + phase) + 50 * np.cos(b * y + 0.05 * x))
    image = np.stack(planes, -1) + noise * rng.standard_normal((height, width, channels))
    return image.clip(0, 255).astype(np.uint8)


def noise(*shape, top=256):
    return rng.randint(0, top, shape)


# PNG, written here byte by byte because Pillow cannot write all of its kinds.

def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def pack(samples, bits):
    """(H, W, C) samples to one string of bytes for each row."""
    if bits == 16:
        return [row.astype(">u2").tobytes() for row in samples]
    rows = []
    for row in samples.reshape(len(samples), -1):
        unpacked = ((row[:, None].astype(int) >> np.arange(bits - 1, -1, -1)) & 1).ravel()
        rows.append(np.packbits(unpacked).tobytes())
    return rows


def write_png(name, samples, kind, bits, extra=b"", interlaced=False):
    height, width = samples.shape[:2]
    samples = samples.reshape(height, width, -1)
    adam7 = [(0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4), (2, 4, 0, 2), (0, 2, 1, 2), (1, 2, 0, 1)]
    passes = adam7 if interlaced else [(0, 1, 0, 1)]
    lines = []
    for y, dy, x, dx in passes:
        part = samples[y::dy, x::dx]
        if part.size:
            lines += [b"\0" + row for row in pack(part, bits)]
    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, int(interlaced))
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra
    data += chunk(b"IDAT", zlib.compress(b"".join(lines), 9)) + chunk(b"IEND", b"")
    (IMAGES / name).write_bytes(data)


def plte(n):
    return chunk(b"PLTE", noise(n, 3).astype(np.uint8).tobytes())


H, W = 17, 23
GREY, RGB, INDEXED, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
for bits in [1, 2, 4, 8, 16]:
    top = 1 << bits
    write_png(f"grey{bits}.png", noise(H, W, top=top), GREY, bits)
    trns = chunk(b"tRNS", struct.pack(">H", top // 2))
    write_png(f"grey{bits}-transparent.png", noise(H, W, top=top), GREY, bits, trns)
    if bits < 16:
        write_png(f"palette{bits}.png", noise(H, W, top=top), INDEXED, bits, plte(top))
        trns = chunk(b"tRNS", noise(min(top, 5)).astype(np.uint8).tobytes())
        write_png(f"palette{bits}-transparent.png", noise(H, W, top=top), INDEXED, bits, plte(top) + trns)
for bits in [8, 16]:
    top = 1 << bits
    write_png(f"rgb{bits}.png", noise(H, W, 3, top=top), RGB, bits)
    trns = chunk(b"tRNS", struct.pack(">HHH", 1, 2, 3))
    write_png(f"rgb{bits}-transparent.png", noise(H, W, 3, top=top), RGB, bits, trns)
    write_png(f"grey{bits}-alpha.png", noise(H, W, 2, top=top), GREY_ALPHA, bits)
    write_png(f"rgba{bits}.png", noise(H, W, 4, top=top), RGBA, bits)
# 16-bit gray that stays below 256, 256 included: where clipping starts.
write_png("grey16-low.png", np.arange(H * W).reshape(H, W), GREY, 16)
write_png("grey1-interlaced.png", noise(H, W, top=2), GREY, 1, interlaced=True)
write_png("rgb8-interlaced.png", noise(H, W, 3), RGB, 8, interlaced=True)
write_png("palette4-interlaced.png", noise(H, W, top=16), INDEXED, 4, plte(16), interlaced=True)
write_png("one-pixel-wide.png", noise(H, 1, 3), RGB, 8)
write_png("one-pixel.png", noise(1, 1), GREY, 8)
Image.fromarray(scene(47, 61, 3, 6)).save(IMAGES / "scene.png")
frames = [Image.fromarray(scene(H, W, 3, 9)) for _ in range(2)]
frames[0].save(IMAGES / "animated.png", save_all=True, append_images=frames[1:])

# JPEG

for name, channels, options in [
    ("grey", 1, {}),
    ("444", 3, dict(subsampling=0)),
    ("422", 3, dict(subsampling=1)),
    ("420", 3, dict(subsampling=2)),
    ("420-progressive", 3, dict(subsampling=2, progressive=True)),
    ("420-restart", 3, dict(subsampling=2, restart_marker_blocks=3)),
    ("rgb", 3, dict(keep_rgb=True)),
    ("cmyk", 4, {}),
]:
    for quality in [60, 95]:
        pixels = scene(47, 61, channels, 6)
        image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels, {1: "L", 3: "RGB", 4: "CMYK"}[channels])
        image.save(IMAGES / f"{name}-q{quality}.jpg", quality=quality, **options)

# GIF


def indexed(height, width, n):
    image = Image.fromarray(noise(height, width, top=n).astype(np.uint8), "P")
    image.putpalette(noise(n * 3).astype(np.uint8).tobytes())
    return image


def put_on_canvas(source, target, left, top, width, height):
    data = bytearray((IMAGES / source).read_bytes())
    descriptor = data.index(b"\x2c", 13 + 3 * (2 << (data[10] & 7)))
    data[6:10] = struct.pack("<HH", width, height)
    data[descriptor + 1 : descriptor + 5] = struct.pack("<HH", left, top)
    (IMAGES / target).write_bytes(data)


indexed(H, W, 256).save(IMAGES / "palette.gif", interlace=0)
indexed(H, W, 13).save(IMAGES / "interlaced.gif", interlace=1)
indexed(H, W, 16).save(IMAGES / "transparent.gif", transparency=3)
Image.fromarray(noise(H, W).astype(np.uint8)).save(IMAGES / "grey.gif")
indexed(H, W, 16).save(IMAGES / "animated.gif", save_all=True, append_images=[indexed(H, W, 16)], disposal=2)
put_on_canvas("palette.gif", "small-frame.gif", 2, 3, 31, 24)
put_on_canvas("transparent.gif", "small-frame-transparent.gif", 2, 3, 31, 24)
put_on_canvas("palette.gif", "frame-beyond-screen.gif", 5, 4, 20, 12)

# BMP


def write_bmp(name, body, bits, compression=0, palette=b"", masks=b"", height=H):
    offset = 14 + 40 + len(masks) + len(palette)
    info = struct.pack("<IiiHHIIiiII", 40, W, height, 1, bits, compression, len(body), 2835, 2835, len(palette) // 4, 0)
    header = b"BM" + struct.pack("<IHHI", offset + len(body), 0, 0, offset)
    (IMAGES / name).write_bytes(header + info + masks + palette + body)


def padded(rows):
    return b"".join(row + b"\0" * (-len(row) % 4) for row in rows)


def colors(n):
    return np.c_[noise(n, 3), np.zeros(n, int)].astype(np.uint8).tobytes()


write_bmp("palette1.bmp", padded(pack(noise(H, W, top=2), 1)), 1, palette=colors(2))
write_bmp("palette4.bmp", padded(pack(noise(H, W, top=16), 4)), 4, palette=colors(16))
write_bmp("palette8.bmp", padded(pack(noise(H, W), 8)), 8, palette=colors(256))
grays = np.repeat(np.arange(256, dtype=np.uint8), 4).tobytes()
write_bmp("grey8.bmp", padded(pack(noise(H, W), 8)), 8, palette=grays)
write_bmp("rgb24.bmp", padded(pack(noise(H, W, 3), 8)), 24)
write_bmp("rgb24-top-down.bmp", padded(pack(noise(H, W, 3), 8)), 24, height=-H)
write_bmp("rgb32.bmp", padded(pack(noise(H, W, 4), 8)), 32)
rgb555 = padded([row.astype("<u2").tobytes() for row in noise(H, W, top=1 << 15)])
write_bmp("rgb555.bmp", rgb555, 16)
rgb565 = padded([row.astype("<u2").tobytes() for row in noise(H, W, top=1 << 16)])
write_bmp("rgb565.bmp", rgb565, 16, 3, masks=struct.pack("<III", 0xF800, 0x07E0, 0x001F))
rle = b"".join(bytes([9, int(noise(1)[0]), W - 9, int(noise(1)[0]), 0, 0]) for _ in range(H)) + b"\0\1"
write_bmp("rle8.bmp", rle, 8, 1, palette=colors(256))
Image.fromarray(noise(H, W, 4).astype(np.uint8), "RGBA").save(IMAGES / "rgba.bmp")

# WebP

for name, channels, options in [
    ("rgb-lossless", 3, dict(lossless=True)),
    ("rgba-lossless", 4, dict(lossless=True, exact=True)),
    ("rgb-lossy", 3, dict(quality=80)),
    ("rgba-lossy", 4, dict(quality=80)),
]:
    Image.fromarray(scene(47, 61, channels, 6)).save(IMAGES / f"{name}.webp", **options)
frames = [Image.fromarray(scene(H, W, 3, 9)) for _ in range(2)]
frames[0].save(IMAGES / "animated.webp", save_all=True, append_images=frames[1:], lossless=True)

frames = [Image.fromarray(scene(H, W, 4, 9)) for _ in range(2)]
frames[0].save(IMAGES / "animated-blended.webp", save_all=True, append_images=frames[1:], quality=80)

# Four inks with subsampling, which few programs write

for subsampling, name in [(1, "422"), (2, "420")]:
    for width, height in [(64, 48), (33, 21)]:
        for progressive in [False, True]:
            kind = "-progressive" if progressive else ""
            Image.fromarray(scene(height, width, 4, 6), "CMYK").save(
                IMAGES / f"cmyk-{name}{kind}-{width}x{height}.jpg", subsampling=subsampling, progressive=progressive)

# TIFF

for name, pixels, mode, options in [
    ("grey", noise(H, W), "L", {}),
    ("grey-lzw", noise(H, W), "L", dict(compression="tiff_lzw")),
    ("bits", noise(H, W, top=2) * 255, "L", dict(compression="group4")),
    ("rgb", noise(H, W, 3), "RGB", {}),
    ("rgb-lzw", noise(H, W, 3), "RGB", dict(compression="tiff_lzw")),
    ("rgb-deflate", noise(H, W, 3), "RGB", dict(compression="tiff_adobe_deflate")),
    ("rgb-packbits", noise(H, W, 3), "RGB", dict(compression="packbits")),
    ("rgba", noise(H, W, 4), "RGBA", {}),
    ("cmyk", noise(H, W, 4), "CMYK", {}),
    ("turned", noise(H, W, 3), "RGB", dict(tiffinfo={274: 6})),
]:
    image = Image.fromarray(pixels.astype(np.uint8), mode)
    (image.convert("1") if name == "bits" else image).save(IMAGES / f"{name}.tif", **options)
Image.fromarray(noise(H, W, top=1 << 16).astype(np.uint16)).save(IMAGES / "grey16.tif")
indexed(H, W, 200).save(IMAGES / "palette.tif")

# PNM

Image.fromarray(noise(H, W).astype(np.uint8)).save(IMAGES / "grey.pgm")
Image.fromarray(noise(H, W, 3).astype(np.uint8)).save(IMAGES / "rgb.ppm")
Image.fromarray((noise(H, W, top=2) * 255).astype(np.uint8)).convert("1").save(IMAGES / "bits.pbm")
for name, body, top in [
    ("grey16.pgm", noise(H, W, top=1 << 16), 65535),
    ("grey-12-bits.pgm", noise(H, W, top=1 << 12), 4095),
    ("rgb16.ppm", noise(H, W, 3, top=1 << 16), 65535),
    ("rgb-white-100.ppm", noise(H, W, 3, top=101), 100),
]:
    kind = 5 if name.endswith("pgm") else 6
    (IMAGES / name).write_bytes(b"P%d %d %d # a comment\n%d\n" % (kind, W, H, top)
                                + body.astype(">u2" if top > 255 else "u1").tobytes())
values = " ".join(map(str, noise(H, W, 3).ravel()))
(IMAGES / "plain.ppm").write_text(f"P3\n# plain\n{W} {H}\n255\n{values}\n")

# BigTIFF

for name, options in [("turned", dict(tiffinfo={274: 6})), ("palette", {})]:
    Image.open(IMAGES / f"{name}.tif").save(IMAGES / f"{name}-big.tif", big_tiff=True, **options)

# What Pillow makes of them

goldens = {}
for path in sorted(IMAGES.iterdir()):
    for mode in ["L", "RGB"]:
        goldens[f"{path.name}/{mode}"] = np.array(Image.open(path).convert(mode))

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
SIZES = [(30, 40), (23, 17), (7, 5), (1, 1), (46, 3), (2, 61), (24, 17), (22, 18)]
for name in ["rgb8.png", "one-pixel-wide.png", "scene.png"]:
    for mode in ["L", "RGB"]:
        image = Image.open(IMAGES / name).convert(mode)
        for filter, resample in FILTERS.items():
            for size in SIZES:
                key = f"resize/{mode}/{filter}/{size[0]}x{size[1]}/{name}"
                goldens[key] = np.array(image.resize(size, resample))
for name in ["scene.png", "rgb8.png"]:
    image = Image.open(IMAGES / name).convert("RGB")
    for size in [(32, 32), (33, 33), (40, 24), (21, 37)]:
        for mode, pct in [("center", 0.875), ("center", 0.95), ("center", 0.8), ("center", 1.0), ("squash", 0.875), ("squash", 0.95)]:
            transform = transforms_imagenet_eval(
                img_size=(size[1], size[0]) if size[0] != size[1] else size[0],
                crop_pct=pct, crop_mode=mode, interpolation="bicubic", use_prefetcher=True)
            result = np.asarray(transform(image))
            if result.shape[0] == 3:
                result = result.transpose(1, 2, 0)
            goldens[f"timm/{mode}/{name}/{size[0]}x{size[1]}/{pct}"] = np.ascontiguousarray(result)

save_file({key: np.ascontiguousarray(value) for key, value in goldens.items()}, HERE / "pillow.safetensors")
print(len(list(IMAGES.iterdir())), "images,", len(goldens), "goldens", file=sys.stderr)
