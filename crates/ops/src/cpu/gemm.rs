//! Matrix products by the `gemm` crate, on one thread each.

/// A matrix in a slice: element (i, j) is at i·`row_stride` + j·`col_stride`.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) row_stride: usize,
    pub(crate) col_stride: usize,
}

impl<'a> Matrix<'a> {
    /// `rows` × `cols`, row after row.
    pub(crate) fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        Self { data, rows, cols, row_stride: cols, col_stride: 1 }
    }

    /// The same values with rows and columns swapped.
    pub(crate) fn t(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }

    fn fits(&self) -> bool {
        self.rows > 0
            && self.cols > 0
            && (self.rows - 1) * self.row_stride + (self.cols - 1) * self.col_stride < self.data.len()
    }
}

/// out = a·b with `out` row after row, on this thread.
pub(crate) fn gemm(out: &mut [f32], a: Matrix<'_>, b: Matrix<'_>) {
    assert!(
        a.fits() && b.fits() && a.cols == b.rows && out.len() == a.rows * b.cols,
        "gemm: sizes do not fit"
    );
    // SAFETY: `fits` and the length of `out` show that every element read or written lies in its slice; `out` is
    // borrowed alone. Strides are below slice lengths, so they fit isize.
    unsafe {
        gemm::gemm(
            a.rows,
            b.cols,
            a.cols,
            out.as_mut_ptr(),
            1,
            b.cols as isize,
            false,
            a.data.as_ptr(),
            a.col_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.col_stride as isize,
            b.row_stride as isize,
            1.0f32,
            1.0f32,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
