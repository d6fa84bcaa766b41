use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use firstsight_data::{NpyRows, OnError, ParquetCell, ParquetColumn, ParquetTable, Sample, scan_images_with};
use firstsight_transfer::{Classifier, EmbeddingRow, Interrupted, MappedImages, csv_row, files};

use crate::{
    context::Context,
    data::{self, TableArgs},
    exit,
    network::NetworkArgs,
    output,
    reading::{OnErrorArgs, SomeUnreadable},
};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    network: NetworkArgs,
    #[command(flatten)]
    on_error: OnErrorArgs,
    /// File for the features, FILE.npy or FILE.parquet. An .npy file has the rows of the images that could be read, and beside it
    /// FILE.csv their names; a Parquet file has every image, its features as a list
    #[arg(long, value_parser = format, value_name = "FILE")]
    out: Out,
    /// Also write a page with a map of the images: the two principal components of their features, colored by folder; of more than
    /// 2000 images, of some evenly from among them
    #[arg(long, value_name = "FILE.html")]
    map: Option<PathBuf>,
    #[command(flatten)]
    table: TableArgs,
    /// Image files, folders, tables, Parquet files or tar shards of images
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<PathBuf>,
}

/// A file, by the end of its name.
#[derive(Debug, Clone)]
enum Out {
    Npy(PathBuf),
    Parquet(PathBuf),
}

fn format(text: &str) -> Result<Out, String> {
    let path = PathBuf::from(text);
    let end = path.extension().map(|end| end.to_string_lossy().to_lowercase());
    match end.as_deref() {
        Some("npy") => Ok(Out::Npy(path)),
        Some("parquet") => Ok(Out::Parquet(path)),
        _ => Err(format!("'{text}' should end in .npy or .parquet")),
    }
}

impl Out {
    fn path(&self) -> &Path {
        match self {
            Self::Npy(path) | Self::Parquet(path) => path,
        }
    }
}

/// The columns of the names beside an .npy file.
const NAMES: [&str; 2] = ["image", "note"];

/// Refuses a file for the names that is another table, such as one of labels.
fn check_names(path: &Path) -> Result<()> {
    let mut start = String::new();
    match fs::File::open(path) {
        Ok(file) => BufReader::new(file).take(64).read_line(&mut start)?,
        Err(_) => return Ok(()),
    };
    if start.is_empty() || start.trim_end() == NAMES.join(",") {
        return Ok(());
    }
    bail!("{} is no list of names that `embed` has written: name another file with --out", path.display())
}

pub(crate) fn run(args: &Args, context: &Context) -> Result<()> {
    let names = args.out.path().with_extension("csv");
    let names = matches!(args.out, Out::Npy(_)).then_some(&*names);
    let outputs: Vec<&Path> =
        [Some(args.out.path()), names, args.map.as_deref()].into_iter().flatten().collect();
    output::check(&outputs, &args.images)?;
    outputs.iter().try_for_each(|file| args.network.check_apart(file))?;
    names.map_or(Ok(()), check_names)?;
    let classifier = args.network.open(context)?;
    let found = scan_images_with(&args.images, &args.table.options())?;
    data::say(&found.remarks, &context.runtime);
    outputs.iter().try_for_each(|file| output::check_apart_from_images(file, &found.samples))?;
    let mut file = File::create(&args.out, &classifier)?;
    let on_error = args.on_error.policy(OnError::Skip);
    let mut mapped = args.map.as_ref().map(|_| MappedImages::default());
    let unreadable = embed(&classifier, found.samples, on_error, context, |row| {
        mapped.iter_mut().for_each(|mapped| mapped.push(row));
        file.push(row)
    })?;
    file.finish()?;
    if let (Some(mapped), Some(path)) = (mapped, &args.map) {
        let images: Vec<String> = args.images.iter().map(|path| path.display().to_string()).collect();
        mapped.report(&images.join(", "))?.write(path)?;
    }
    unreadable
}

/// Gives each image's features to `on_row`. The result is an error where the work could not be done; the inner one, where some images
/// could not be read.
pub(super) fn embed(
    classifier: &Classifier,
    images: Vec<Sample>,
    on_error: OnError,
    context: &Context,
    mut on_row: impl FnMut(&EmbeddingRow) -> Result<()>,
) -> Result<Result<()>> {
    let (runtime, total) = (&context.runtime, images.len());
    let (mut n, mut unreadable, mut refused) = (0, 0, None);
    runtime.interrupt.with_graceful_interrupt(|_| {
        runtime.counted("images", |report| {
            classifier.embed_images(images, |row| {
                if runtime.interrupt.is_raised() {
                    return Err(Interrupted(format!(
                        "{n} of {total} images are done, and nothing is written"
                    ))
                    .into());
                }
                if let Err(error) = &row.features {
                    refused = refused.take().or_else(|| exit::system_error(error));
                    if on_error == OnError::Fail {
                        let said = format!("{error}: --on-error skip leaves it out");
                        return Err(exit::caused(said, refused.take()));
                    }
                    unreadable += 1;
                    runtime.message(&format!("not read: {error}"));
                }
                on_row(&row)?;
                n += 1;
                report(n, total);
                Ok(())
            })
        })
    })?;
    if unreadable == n {
        return Err(exit::caused(format!("none of {n} files could be read as an image"), refused));
    }
    Ok(SomeUnreadable::check(unreadable, n))
}

/// The file of features.
enum File {
    Npy { rows: Box<NpyRows<f32>>, names: Vec<u8>, path: PathBuf },
    Parquet(Box<ParquetTable>),
}

impl File {
    fn create(out: &Out, classifier: &Classifier) -> Result<Self> {
        Ok(match out {
            Out::Npy(path) => Self::Npy {
                rows: Box::new(NpyRows::create(path, &[classifier.network.n_features()])?),
                names: csv_row(NAMES.map(str::to_owned))?,
                path: path.with_extension("csv"),
            },
            Out::Parquet(path) => {
                let columns = [
                    ("image", ParquetColumn::Text),
                    ("features", ParquetColumn::Floats),
                    ("error", ParquetColumn::Text),
                    ("note", ParquetColumn::Text),
                ];
                Self::Parquet(Box::new(ParquetTable::create(path, &columns)?))
            }
        })
    }

    fn push(&mut self, row: &EmbeddingRow) -> Result<()> {
        let image = row.image.to_string_lossy();
        let note = row.note.as_deref().unwrap_or_default();
        match (self, &row.features) {
            (Self::Npy { rows, names, .. }, Ok(features)) => {
                rows.push(features)?;
                names.extend(csv_row([image.into_owned(), note.to_owned()])?);
            }
            (Self::Npy { .. }, Err(_)) => {}
            (Self::Parquet(table), features) => {
                let error = features.as_ref().err().map(ToString::to_string).unwrap_or_default();
                let features = match features {
                    Ok(features) => ParquetCell::Floats(features),
                    Err(_) => ParquetCell::Text(""),
                };
                let cells =
                    [ParquetCell::Text(&image), features, ParquetCell::Text(&error), ParquetCell::Text(note)];
                table.push(cells)?;
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<()> {
        match self {
            Self::Npy { rows, names, path } => {
                rows.finish()?;
                Ok(files::write(&path, &names)?)
            }
            Self::Parquet(table) => Ok(table.finish()?),
        }
    }
}
