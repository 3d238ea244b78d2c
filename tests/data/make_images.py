#!/usr/bin/env python3
"""Writes the pictures that tests/image_file_test.cpp reads, and golden_images.json: what PIL makes of them.

The committed ones were made by Pillow 13.0.0:  python make_images.py tests/data
The pixels are a formula of their place, so that the test knows those of lossless files without reading them here.
"""
import json
import struct
import sys
import zlib

from PIL import Image


def picture(height, width):
    image = Image.new("RGB", (width, height))
    image.putdata([tuple((x * 31 + y * 17 + c * 83 + x * y % 7 * 11) % 256 for c in range(3))
                   for y in range(height) for x in range(width)])
    return image


def smooth(height, width):
    image = Image.new("RGB", (width, height))
    image.putdata([(x * 12 % 256, y * 17 % 256, (x + y) * 7 % 256) for y in range(height) for x in range(width)])
    return image


def interlaced(image, path):
    """Pillow cannot write PNG's seven passes."""
    rows = b""
    for x0, y0, dx, dy in ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
                           (0, 1, 1, 2)):
        for y in range(y0, image.height, dy):
            if x0 < image.width:
                rows += b"\0" + b"".join(bytes(image.getpixel((x, y))) for x in range(x0, image.width, dx))

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    with open(path, "wb") as f:
        header = struct.pack(">IIBBBBB", image.width, image.height, 8, 2, 0, 0, 1)
        f.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header))
        f.write(chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def resize_crop(image, height, width):
    """torchvision's Resize and CenterCrop, for targets that are not square, too."""
    w, h = image.size
    if height * w >= width * h:
        scaled_h, scaled_w = height, w * height // h
    else:
        scaled_h, scaled_w = h * width // w, width
    top, left = int(round((scaled_h - height) / 2.0)), int(round((scaled_w - width) / 2.0))
    return image.resize((scaled_w, scaled_h), Image.BILINEAR).crop((left, top, left + width, top + height))


def main(folder):
    rgb = picture(5, 7)
    rgb.save(f"{folder}/images/rgb.png")
    rgb.convert("L").save(f"{folder}/images/grey.png")
    rgb.quantize(16).save(f"{folder}/images/palette.png")
    rgb.convert("1").save(f"{folder}/images/bits.png")
    alpha = rgb.copy()
    alpha.putalpha(rgb.getchannel(1))
    alpha.save(f"{folder}/images/alpha.png")
    interlaced(rgb, f"{folder}/images/interlaced.png")
    Image.frombytes("I;16", (4, 2), bytes(b for v in range(8) for b in (v * 9 % 256, v * 36))).save(
        f"{folder}/images/grey16.png")
    photo = smooth(13, 19)
    photo.save(f"{folder}/images/photo.jpg", quality=90)
    photo.save(f"{folder}/images/progressive.jpg", quality=80, progressive=True)
    photo.convert("L").save(f"{folder}/images/grey.jpg", quality=90)
    photo.convert("CMYK").save(f"{folder}/images/cmyk.jpg", quality=50)

    golden = {"files": {}, "resized": []}
    for name in ("rgb.png", "grey.png", "palette.png", "bits.png", "alpha.png", "interlaced.png", "photo.jpg",
                 "progressive.jpg", "grey.jpg"):
        image = Image.open(f"{folder}/images/{name}")
        golden["files"][name] = {"size": [image.height, image.width], "rgb": list(image.convert("RGB").tobytes()),
                                 "grey": list(image.convert("RGB").convert("L").tobytes())}
    for size in ((8, 8), (6, 12), (12, 6), (32, 32), (20, 14), (1, 1), (14, 20), (3, 64)):
        golden["resized"].append({"size": size, "rgb": list(resize_crop(picture(20, 14), *size).tobytes())})
    with open(f"{folder}/golden_images.json", "w") as f:
        json.dump(golden, f, separators=(",", ":"))
        f.write("\n")


main(sys.argv[1])
