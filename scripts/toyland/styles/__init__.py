"""The 26 styles besides plain drawing: any scene renders in any of them."""

from styles.base import Style
from styles import classic

STYLES: dict[str, Style] = {style.name: style for style in (*classic.STYLES,)}
