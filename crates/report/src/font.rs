//! The Chinese characters that a page uses, as a font embedded in the page.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use font_subset::Font;

/// The shipped font, made by fonts/make.py.
static HANZI: &[u8] = include_bytes!("../fonts/firstsight-hanzi.ttf");

fn hanzi() -> Option<&'static Font<'static>> {
    static FONT: OnceLock<Option<Font<'static>>> = OnceLock::new();
    FONT.get_or_init(|| Font::opentype(HANZI).ok()).as_ref()
}

/// The characters of `text` that the shipped font has.
fn covered(text: &str) -> BTreeSet<char> {
    let Some(font) = hanzi() else { return BTreeSet::new() };
    // The font has nothing below U+3001, and most of a page is below.
    let candidates: BTreeSet<char> = text.chars().filter(|&c| c > '\u{3000}').collect();
    candidates.into_iter().filter(|&c| font.contains_char(c)).collect()
}

/// A TrueType font with `characters` only.
fn subset(characters: &BTreeSet<char>) -> Option<Vec<u8>> {
    // font-subset panics when asked for nothing.
    if characters.is_empty() {
        return None;
    }
    Some(hanzi()?.subset(characters).ok()?.to_opentype())
}

/// The `@font-face` rule for the characters of `page`, or nothing if there are none. The rule's range
/// keeps the browser from asking this font for anything else.
pub(crate) fn face(page: &str) -> String {
    let characters = covered(page);
    let Some(font) = subset(&characters) else { return String::new() };
    let range: Vec<String> = characters.iter().map(|&c| format!("U+{:X}", u32::from(c))).collect();
    format!(
        "@font-face{{font-family:\"Firstsight Hanzi\";unicode-range:{};\
         src:url(data:font/ttf;base64,{}) format(\"truetype\")}}\n",
        range.join(","),
        STANDARD.encode(font)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const LECTURE: &str = "人从众大夫天口太因鱼犬吠哭火炎啖木林森本竹羊美羔山出女囡鸟日东月朋明肉肤工白虎门闪问闲水牛马吗妈玉王国主川舟虫";
    const CASIA: &str = "垂垃垄型垒垛垢垣垦垮宁它宅守安宋完宏宕宗宙宛实审客宣室宫害容宽宿寂寄密富寒察寡寸对寺寻导寿峪峰峻庄庆庐庞废庠庶";

    #[test]
    fn the_shipped_font_has_both_character_sets_and_level_1() {
        assert_eq!(covered(LECTURE).len(), 55);
        assert_eq!(covered(CASIA).len(), 55);
        assert_eq!(covered("啊阿座（，。"), "啊阿座（，。".chars().collect());
        // 3,755 of level 1, 5 beyond it, 17 marks, and the outline for what is missing.
        assert_eq!(hanzi().unwrap().glyph_count(), 3_778);
        assert_eq!(hanzi().unwrap().naming().family.unwrap(), "Firstsight Hanzi");
    }

    #[test]
    fn a_subset_maps_its_characters_and_no_others() {
        let characters: BTreeSet<char> = "宁它".chars().collect();
        let bytes = subset(&characters).unwrap();
        let font = Font::opentype(&bytes).unwrap();
        assert!(font.contains_char('宁') && font.contains_char('它') && !font.contains_char('宅'));
        assert_eq!(font.glyph_count(), 3);
        assert!(bytes.len() < 2_000, "{} bytes", bytes.len());
    }

    #[test]
    fn every_character_at_once() {
        let all: BTreeSet<char> = hanzi().unwrap().char_ranges().flatten().collect();
        let bytes = subset(&all).unwrap();
        let font = Font::opentype(&bytes).unwrap();
        assert!(all.iter().all(|&c| font.contains_char(c)));
    }

    #[test]
    fn a_page_without_hanzi_carries_no_font() {
        assert_eq!(face("plain, naïve, 🐟, かな, 한글"), "");
        assert!(face("a 鱼").contains("unicode-range:U+9C7C;"));
    }
}
