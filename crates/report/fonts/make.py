"""Makes firstsight-hanzi.ttf, the Chinese characters that a report can embed.

    python make.py /usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc

needs fontTools (4.68 made the committed file) and the collection of Debian's package fonts-noto-cjk.

What is in it: the 3,755 characters of GB 2312 level 1, the two sets of 55 characters that the project
classifies, and the punctuation that goes with them. What is not: hinting, layout features, vertical
metrics. The outlines are TrueType's quadratic ones, because the subsetter that the crate uses at run
time copies `glyf` records; they lie on a grid of 512 units per em and differ from the cubic originals
by at most 0.004 em, a third of a pixel at 80 pixels per em, which is larger than any text here.
"""

import sys
from pathlib import Path

from fontTools import subset
from fontTools.pens.cu2quPen import Cu2QuPen
from fontTools.pens.ttGlyphPen import TTGlyphPen
from fontTools.ttLib import TTFont, newTable
from fontTools.ttLib.scaleUpem import scale_upem

FAMILY = "Firstsight Hanzi"
UNITS_PER_EM = 512
MAX_ERROR = 0.004  # em
LECTURE = "人从众大夫天口太因鱼犬吠哭火炎啖木林森本竹羊美羔山出女囡鸟日东月朋明肉肤工白虎门闪问闲水牛马吗妈玉王国主川舟虫"
CASIA = "垂垃垄型垒垛垢垣垦垮宁它宅守安宋完宏宕宗宙宛实审客宣室宫害容宽宿寂寄密富寒察寡寸对寺寻导寿峪峰峻庄庆庐庞废庠庶"
PUNCTUATION = "、。《》「」『』【】（），：；！？～"
OFL = (
    "This Font Software is licensed under the SIL Open Font License, Version 1.1. "
    "This license is available with a FAQ at: https://openfontlicense.org"
)


def level_1() -> set[str]:
    """GB 2312 rows 16 to 55; the last five cells of row 55 are empty."""
    cells = (bytes([row, cell]) for row in range(0xB0, 0xD8) for cell in range(0xA1, 0xFF))
    return set("".join(pair.decode("gb2312", errors="ignore") for pair in cells))


def quadratic(font: TTFont) -> None:
    """Replaces the `CFF ` table by `glyf` and `loca`."""
    glyphs, outlines = {}, font.getGlyphSet()
    for name in font.getGlyphOrder():
        pen = TTGlyphPen(None)
        max_error = MAX_ERROR * font["head"].unitsPerEm
        outlines[name].draw(Cu2QuPen(pen, max_err=max_error, reverse_direction=True))
        glyphs[name] = pen.glyph()
    font["loca"] = newTable("loca")
    font["glyf"] = glyf = newTable("glyf")
    glyf.glyphOrder, glyf.glyphs = font.getGlyphOrder(), glyphs
    for name, glyph in glyphs.items():
        glyph.recalcBounds(glyf)
        font["hmtx"][name] = (font["hmtx"][name][0], getattr(glyph, "xMin", 0))
    del font["CFF "]
    font.sfntVersion = "\x00\x01\x00\x00"
    maxp = font["maxp"]
    maxp.tableVersion = 0x00010000
    for field in (
        "maxTwilightPoints maxStorage maxFunctionDefs maxInstructionDefs maxStackElements "
        "maxSizeOfInstructions maxComponentElements maxComponentDepth"
    ).split():
        setattr(maxp, field, 0)
    maxp.maxZones = 1


def rename(font: TTFont) -> None:
    """A name of its own, as a changed version should have, and the license that goes with it."""
    copyright = font["name"].getDebugName(0)
    version = font["name"].getDebugName(5).split(";")[0]
    names = font["name"] = newTable("name")
    names.names = []
    for name_id, text in {
        0: f"{copyright} Subset with quadratic outlines of Noto Sans CJK SC, {version}.",
        1: FAMILY,
        2: "Regular",
        4: FAMILY,
        6: FAMILY.replace(" ", "") + "-Regular",
        13: OFL,
        14: "https://openfontlicense.org",
    }.items():
        names.setName(text, name_id, 3, 1, 0x409)


def main() -> None:
    # Number 2 in the collection holds the shapes that simplified Chinese uses.
    font = TTFont(sys.argv[1], fontNumber=2, recalcTimestamp=False)
    options = subset.Options(hinting=False, layout_features=[], notdef_outline=True, desubroutinize=True)
    options.drop_tables += ["BASE", "GDEF", "GPOS", "GSUB", "VORG", "vhea", "vmtx"]
    subsetter = subset.Subsetter(options)
    subsetter.populate(text="".join(sorted(level_1() | set(LECTURE + CASIA + PUNCTUATION))))
    subsetter.subset(font)
    quadratic(font)
    rename(font)
    font["post"].formatType = 3.0
    scale_upem(font, UNITS_PER_EM)
    out = Path(__file__).with_name("firstsight-hanzi.ttf")
    font.save(out)
    print(f"{out.name}: {len(font.getBestCmap())} characters, {out.stat().st_size} bytes")


main()
