"""Pictures in every form that users have, and the pixels that Pillow reads from them.

    python scripts/reference/make_image_goldens.py        writes tests/goldens/image/

<name>.png / <name>.jpg are the inputs. pixels.safetensors holds, per input, `<name>.rgb` [H, W, 3]: what
diffusers.utils.load_image gives, and `<name>.grey` [H, W]: Pillow's convert("L") of the upright picture.
resize.safetensors holds `in.*` pictures and `out.<case>` with Pillow's filters. MANIFEST.json lists both.
"""

import hashlib
import io
import json
import pathlib
import struct
import zlib

import numpy
import PIL
import PIL.Image
import PIL.ImageOps
import safetensors
import safetensors.numpy
from diffusers.utils import load_image

SEED = 3
OUT = pathlib.Path(__file__).resolve().parents[2] / "tests" / "goldens" / "image"
EXIF_HEAD = b"Exif\0\0"


def picture(height, width):
    """Smooth waves with some noise: chroma edges for JPEG, every grey level for palettes."""
    random = numpy.random.default_rng(SEED)
    y, x = numpy.mgrid[0:height, 0:width] / 5.0
    waves = [127 + 110 * numpy.sin(a * x + b * y + c) for a, b, c in ((1, 0.4, 0), (-0.7, 1, 1), (0.3, -1.3, 2))]
    noise = random.integers(-15, 16, (height, width, 3))
    return numpy.clip(numpy.stack(waves, -1) + noise, 0, 255).astype(numpy.uint8)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, bit_depth, color_type, rows, extra=b""):
    """A PNG from ready-made rows: Pillow writes too few of the forms that it reads."""
    head = struct.pack(">IIBBBBB", width, height, bit_depth, color_type, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + bytes(row) for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def tiff_orientation(value, order=">", kind=3):
    """The smallest EXIF block: one field, the orientation (kind 1 BYTE, 3 SHORT, 4 LONG)."""
    head = b"MM\0*" if order == ">" else b"II*\0"
    packed = struct.pack(order + {1: "B", 3: "H", 4: "I"}[kind], value).ljust(4, b"\0")
    return head + struct.pack(order + "IHHHI", 8, 1, 0x0112, kind, 1) + packed + struct.pack(order + "I", 0)


def png_inputs():
    rgb = picture(7, 11)
    rgba = numpy.concatenate([rgb, rgb[..., ::-1][..., :1]], -1)
    grey = rgb[..., 0]
    rng = numpy.random.default_rng(SEED + 1)
    bits = rng.integers(0, 256, (5, 8), dtype=numpy.uint8)
    wide = rng.integers(0, 65536, (5, 6, 4)).astype(">u2")
    palette = chunk(b"PLTE", bytes(rng.integers(0, 256, 256 * 3, dtype=numpy.uint8)))
    plain = io.BytesIO()
    PIL.Image.fromarray(picture(13, 9)).save(plain, "PNG")
    files = {
        "rgb": png(11, 7, 8, 2, rgb.reshape(7, -1)),
        "rgba": png(11, 7, 8, 6, rgba.reshape(7, -1)),
        "grey": png(11, 7, 8, 0, grey),
        "grey_alpha": png(11, 7, 8, 4, rgba[..., [0, 3]].reshape(7, -1)),
        "grey1": png(61, 5, 1, 0, bits),
        "grey2": png(31, 5, 2, 0, bits),
        "grey4": png(16, 5, 4, 0, bits),
        "grey16": png(6, 5, 16, 0, [  # odd rows stay under 256
            (wide[y, :, 0] >> (8 * (y % 2))).astype(">u2").tobytes() for y in range(5)]),
        "rgb16": png(6, 5, 16, 2, [wide[y, :, :3].tobytes() for y in range(5)]),
        "rgba16": png(6, 5, 16, 6, [wide[y].tobytes() for y in range(5)]),
        "grey_alpha16": png(6, 5, 16, 4, [wide[y, :, :2].tobytes() for y in range(5)]),
        "palette8": png(8, 5, 8, 3, bits, palette),
        "palette4": png(16, 5, 4, 3, bits, chunk(b"PLTE", palette[8:8 + 48])),
        "palette1": png(64, 5, 1, 3, bits, chunk(b"PLTE", bytes([10, 20, 30, 200, 100, 50]))),
        "palette_short": png(8, 5, 8, 3, bits, chunk(b"PLTE", palette[8:8 + 60])),
        "palette_transparent": png(8, 5, 8, 3, bits, palette + chunk(b"tRNS", bytes(range(0, 250, 10)))),
        "rgb_transparent": png(11, 7, 8, 2, rgb.reshape(7, -1), chunk(b"tRNS", rgb[0, 0].astype(">u2").tobytes())),
        "grey_transparent": png(11, 7, 8, 0, grey, chunk(b"tRNS", struct.pack(">H", int(grey[0, 0])))),
        "gamma": png(11, 7, 8, 2, rgb.reshape(7, -1), chunk(b"gAMA", struct.pack(">I", 100000))),
        "one_pixel": png(1, 1, 8, 2, [[1, 2, 3]]),
        "filters": plain.getvalue(),
        "exif_orientation": png(11, 7, 8, 2, rgb.reshape(7, -1), chunk(b"eXIf", tiff_orientation(6))),
        "xmp_orientation": png(11, 7, 8, 2, rgb.reshape(7, -1), chunk(
            b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b"<x tiff:Orientation=\"8\"/>")),
        "raw_profile_orientation": png(11, 7, 8, 2, rgb.reshape(7, -1), chunk(
            b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(
                b"\nexif\n      32\n" + (EXIF_HEAD + tiff_orientation(5)).hex().encode() + b"\n"))),
        "exif_wins_over_xmp": png(11, 7, 8, 2, rgb.reshape(7, -1), chunk(b"eXIf", tiff_orientation(3)) + chunk(
            b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b"<x tiff:Orientation=\"8\"/>")),
    }
    return {f"{name}.png": data for name, data in files.items()} | {"interlaced.png": interlaced_png(picture(13, 17))}


def interlaced_png(rgb):
    """Adam7, which Pillow reads but does not write."""
    height, width, _ = rgb.shape
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    rows = []
    for x0, y0, dx, dy in passes:
        part = rgb[y0::dy, x0::dx]
        if part.size:
            rows += [b"\0" + row.tobytes() for row in part]
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"".join(rows))) + chunk(b"IEND", b"")


def jpeg_inputs():
    files = {}

    def save(name, image, **options):
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", **options)
        files[f"{name}.jpg"] = buffer.getvalue()

    rgb = PIL.Image.fromarray(picture(29, 37))
    save("jpeg_444", rgb, quality=90, subsampling=0)
    save("jpeg_422", rgb, quality=75, subsampling=1)
    save("jpeg_420", rgb, quality=50, subsampling=2)
    save("jpeg_progressive", rgb, quality=80, progressive=True)
    save("jpeg_grey", rgb.convert("L"), quality=80)
    save("jpeg_cmyk", rgb.convert("CMYK"), quality=80)
    small = PIL.Image.fromarray(picture(16, 24))
    for value in range(1, 9):
        save(f"jpeg_orientation{value}", small, quality=60, exif=EXIF_HEAD + tiff_orientation(value))
    save("jpeg_orientation_little_endian", small, quality=60, exif=EXIF_HEAD + tiff_orientation(6, "<"))
    save("jpeg_orientation_long", small, quality=60, exif=EXIF_HEAD + tiff_orientation(6, "<", 4))
    save("jpeg_orientation_byte", small, quality=60, exif=EXIF_HEAD + tiff_orientation(6, "<", 1))
    save("jpeg_orientation_unknown", small, quality=60, exif=EXIF_HEAD + tiff_orientation(9))
    save("jpeg_exif_without_orientation", small, quality=60, exif=EXIF_HEAD + tiff_orientation(6).replace(b"\x01\x12", b"\x01\x13", 1))
    save("jpeg_xmp_orientation", small, quality=60, xmp=b"<tiff:Orientation>3</tiff:Orientation>")
    return files


RESIZE_SIZES = [  # input, height, width
    ("rgb", 64, 64), ("rgb", 10, 10), ("rgb", 48, 33), ("rgb", 49, 60), ("rgb", 48, 61), ("rgb", 1, 1),
    ("rgb", 7, 200), ("grey", 31, 90), ("grey", 96, 20), ("noise", 24, 24), ("noise", 8, 70), ("tiny", 16, 16),
]
FILTERS = ("bilinear", "bicubic", "lanczos")


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    inputs = png_inputs() | jpeg_inputs()
    pixels = {}
    for name, data in inputs.items():
        (OUT / name).write_bytes(data)
        pixels[f"{name}.rgb"] = numpy.ascontiguousarray(numpy.asarray(load_image(str(OUT / name))))
        upright = PIL.ImageOps.exif_transpose(PIL.Image.open(OUT / name))
        pixels[f"{name}.grey"] = numpy.ascontiguousarray(numpy.asarray(upright.convert("L")))
    safetensors.numpy.save_file(pixels, OUT / "pixels.safetensors")

    noise = numpy.random.default_rng(SEED + 2).integers(0, 2, (40, 50, 3), dtype=numpy.uint8) * 255
    sources = {"rgb": picture(48, 61), "grey": picture(48, 61)[..., 0], "noise": noise, "tiny": picture(2, 3)}
    tensors = {f"in.{name}": numpy.ascontiguousarray(source) for name, source in sources.items()}
    for name, height, width in RESIZE_SIZES:
        for kind in FILTERS:
            resized = PIL.Image.fromarray(sources[name]).resize((width, height), PIL.Image.Resampling[kind.upper()])
            tensors[f"out.{name}.{height}x{width}.{kind}"] = numpy.ascontiguousarray(numpy.asarray(resized))
    safetensors.numpy.save_file(tensors, OUT / "resize.safetensors")

    manifest = {
        "generator": "scripts/reference/make_image_goldens.py",
        "seed": SEED,
        "versions": {"pillow": PIL.__version__, "numpy": numpy.__version__, "safetensors": safetensors.__version__},
        "pictures": sorted(inputs),
        "resize": [{"input": name, "height": height, "width": width} for name, height, width in RESIZE_SIZES],
        "filters": list(FILTERS),
        "sha256": {path.name: hashlib.sha256(path.read_bytes()).hexdigest()
                   for path in sorted(OUT.iterdir()) if path.name != "MANIFEST.json"},
    }
    (OUT / "MANIFEST.json").write_text(json.dumps(manifest, indent=1) + "\n")


if __name__ == "__main__":
    main()
