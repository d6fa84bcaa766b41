//! Shared mutable views of buffers for tasks that write disjoint parts.

use std::marker::PhantomData;
use std::ops::Range;

/// The planes of a (B, C, H, W) map, each of `size` values, which tasks write channel by channel.
#[derive(Clone, Copy)]
pub(crate) struct Planes<'a> {
    data: *mut f32,
    channels: usize,
    batch: usize,
    size: usize,
    _borrow: PhantomData<&'a mut [f32]>,
}

// SAFETY: all access is by methods whose callers ensure that no two threads hold the same values.
unsafe impl Send for Planes<'_> {}
// SAFETY: as above.
unsafe impl Sync for Planes<'_> {}

impl<'a> Planes<'a> {
    pub(crate) fn new(data: &'a mut [f32], channels: usize, size: usize) -> Self {
        assert!(channels * size > 0 && data.len().is_multiple_of(channels * size));
        let batch = data.len() / (channels * size);
        Self { data: data.as_mut_ptr(), channels, batch, size, _borrow: PhantomData }
    }

    /// The plane of one channel of one sample.
    ///
    /// # Safety
    /// No other reference to this plane exists.
    pub(crate) unsafe fn plane(&self, sample: usize, channel: usize) -> &'a mut [f32] {
        // SAFETY: by this function's contract.
        unsafe { self.part(sample, channel, 0..self.size) }
    }

    /// The planes of some channels of one sample.
    ///
    /// # Safety
    /// No other reference to these planes exists.
    pub(crate) unsafe fn planes(&self, sample: usize, channels: Range<usize>) -> &'a mut [f32] {
        assert!(sample < self.batch && channels.start <= channels.end && channels.end <= self.channels);
        // SAFETY: the planes lie in the slice that was borrowed for 'a; the caller holds the only reference.
        unsafe {
            let first = self.data.add((sample * self.channels + channels.start) * self.size);
            std::slice::from_raw_parts_mut(first, channels.len() * self.size)
        }
    }

    /// A range of the values of a plane.
    ///
    /// # Safety
    /// No other reference to these values exists.
    pub(crate) unsafe fn part(&self, sample: usize, channel: usize, range: Range<usize>) -> &'a mut [f32] {
        assert!(sample < self.batch && channel < self.channels);
        assert!(range.start <= range.end && range.end <= self.size);
        // SAFETY: the part lies in the slice that was borrowed for 'a; the caller holds the
        // only reference.
        unsafe {
            let plane = self.data.add((sample * self.channels + channel) * self.size);
            std::slice::from_raw_parts_mut(plane.add(range.start), range.len())
        }
    }
}

/// Values that tasks write at disjoint offsets.
pub(crate) struct Shared<'a> {
    data: *mut f32,
    len: usize,
    _borrow: PhantomData<&'a mut [f32]>,
}

// SAFETY: the only access is `write`, whose callers ensure that no two threads write one element.
unsafe impl Sync for Shared<'_> {}

impl<'a> Shared<'a> {
    pub(crate) fn new(data: &'a mut [f32]) -> Self {
        Self { data: data.as_mut_ptr(), len: data.len(), _borrow: PhantomData }
    }

    /// `len` values from one on.
    ///
    /// # Safety
    /// No other reference to these values exists.
    pub(crate) unsafe fn part(&self, at: usize, len: usize) -> &'a mut [f32] {
        assert!(at <= self.len && len <= self.len - at);
        // SAFETY: the part lies in the slice that was borrowed for 'a; the caller holds the only reference.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(at), len) }
    }

    /// Writes `values` from offset `at` on.
    ///
    /// # Safety
    /// No other thread accesses these elements.
    #[inline(always)]
    pub(crate) unsafe fn write(&self, at: usize, values: &[f32]) {
        assert!(at <= self.len && values.len() <= self.len - at);
        // SAFETY: the elements lie in the slice that was borrowed for 'a, and the caller has
        // exclusive access.
        unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), self.data.add(at), values.len()) };
    }
}
