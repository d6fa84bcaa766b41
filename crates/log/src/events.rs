//! TensorBoard's event files: records of TensorFlow's format, each a message `Event`.
//!
//! The messages have the field numbers of TensorBoard's `event.proto`, `summary.proto` and `tensor.proto`; what is not written here is
//! left out.

use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    pub(crate) wall_time: f64,
    #[prost(int64, tag = "2")]
    pub(crate) step: i64,
    #[prost(string, optional, tag = "3")]
    pub(crate) file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    pub(crate) summary: Option<Summary>,
    #[prost(message, optional, tag = "7")]
    pub(crate) session_log: Option<SessionLog>,
}

/// With the status START, what other files say of this step and later ones does not count.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SessionLog {
    #[prost(int32, tag = "1")]
    pub(crate) status: i32,
}

impl SessionLog {
    pub(crate) const START: i32 = 1;
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Summary {
    #[prost(message, repeated, tag = "1")]
    pub(crate) value: Vec<SummaryValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SummaryValue {
    #[prost(string, tag = "1")]
    pub(crate) tag: String,
    #[prost(float, optional, tag = "2")]
    pub(crate) simple_value: Option<f32>,
    #[prost(message, optional, tag = "8")]
    pub(crate) tensor: Option<Tensor>,
    #[prost(message, optional, tag = "9")]
    pub(crate) metadata: Option<SummaryMetadata>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SummaryMetadata {
    #[prost(message, optional, tag = "1")]
    pub(crate) plugin_data: Option<PluginData>,
    #[prost(int32, tag = "4")]
    pub(crate) data_class: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PluginData {
    #[prost(string, tag = "1")]
    pub(crate) plugin_name: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Tensor {
    #[prost(int32, tag = "1")]
    pub(crate) dtype: i32,
    #[prost(bytes = "vec", repeated, tag = "8")]
    pub(crate) string_val: Vec<Vec<u8>>,
}

impl SummaryValue {
    pub(crate) fn scalar(tag: &str, value: f64) -> Self {
        Self { tag: tag.to_owned(), simple_value: Some(value as f32), ..Self::default() }
    }

    /// A text in Markdown: a scalar tensor of type DT_STRING (7) and of the class DATA_CLASS_TENSOR (2).
    pub(crate) fn text(tag: &str, text: String) -> Self {
        let plugin_data = Some(PluginData { plugin_name: "text".to_owned() });
        Self {
            tag: tag.to_owned(),
            tensor: Some(Tensor { dtype: 7, string_val: vec![text.into_bytes()] }),
            metadata: Some(SummaryMetadata { plugin_data, data_class: 2 }),
            ..Self::default()
        }
    }
}

/// A record: the length in 8 bytes, its checksum, the event, its checksum.
pub(crate) fn record(event: &Event) -> Vec<u8> {
    let event = event.encode_to_vec();
    let length = (event.len() as u64).to_le_bytes();
    [&length[..], &masked(&length), &event, &masked(&event)].concat()
}

/// The events of a file, up to a record that is damaged or not whole.
pub(crate) fn events(mut bytes: &[u8]) -> impl Iterator<Item = Event> + '_ {
    std::iter::from_fn(move || {
        let (length, rest) = bytes.split_first_chunk::<8>()?;
        let (check, rest) = rest.split_first_chunk::<4>()?;
        let n = usize::try_from(u64::from_le_bytes(*length)).ok()?;
        let (event, rest) = rest.split_at_checked(n)?;
        let (event_check, rest) = rest.split_first_chunk::<4>()?;
        bytes = rest;
        let is_sound = *check == masked(length) && *event_check == masked(event);
        is_sound.then(|| Event::decode(event).ok()).flatten()
    })
}

/// CRC-32C, rotated by 15 bits with a constant added, since a checksum of data with checksums says little.
fn masked(bytes: &[u8]) -> [u8; 4] {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

/// CRC-32C (Castagnoli), bit by bit: an epoch makes a few hundred bytes.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3720, appendix B.4, and the common check value.
    #[test]
    fn the_checksum_is_that_of_the_standard() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    }

    #[test]
    fn records_are_read_up_to_damage() {
        let event = |step| Event {
            step,
            summary: Some(Summary { value: vec![SummaryValue::scalar("loss", 0.5)] }),
            ..Event::default()
        };
        let file: Vec<u8> = (0..3).flat_map(|step| record(&event(step))).collect();
        assert_eq!(events(&file).collect::<Vec<_>>(), [event(0), event(1), event(2)]);
        assert_eq!(events(&file[..file.len() - 1]).count(), 2);
        let mut damaged = file.clone();
        damaged[file.len() / 3 + 14] ^= 1;
        assert_eq!(events(&damaged).count(), 1);
        damaged[0] = 0xff;
        assert_eq!(events(&damaged).count(), 0);
    }
}
