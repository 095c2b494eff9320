"""The 26 styles besides plain drawing: any scene renders in any of them."""

from styles import classic, light, lines, paint, prints, tiles
from styles.base import Style

STYLES: dict[str, Style] = {
    style.name: style for module in (classic, tiles, lines, prints, light, paint) for style in module.STYLES
}
