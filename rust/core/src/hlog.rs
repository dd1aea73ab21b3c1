//! Histograms on disk: HdrHistogram's interval log with tags, readable by any HdrHistogram tool.
//!
//! One line per histogram: `Tag=consensus.search.response,12.000,1.500,3.276,HISTFAAA…` with the
//! start and the length in seconds (the start relative to the log's start time), the maximum in
//! milliseconds and the [encoded](codec) histogram.

mod codec;

pub use codec::{CodecError, decode, encode};

use crate::histogram::Histogram;

const LEGEND: &str =
    "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"";
/// HdrHistogram's convention: the maximum of an interval is given in milliseconds.
const MAX_UNIT_NS: f64 = 1e6;
/// HdrHistogram's convention: without a base time, stamps this far before the start are relative.
const YEAR_S: f64 = 365.0 * 86_400.0;

/// One histogram of a log.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Empty where the line has none.
    pub tag: String,
    /// Seconds since the log's start time.
    pub start_s: f64,
    pub duration_s: f64,
    pub histogram: Histogram,
}

/// A log that was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Log {
    /// Seconds since the Unix epoch; 0 where the log does not say.
    pub start_time_s: f64,
    pub entries: Vec<Entry>,
    /// The last line had no end and was dropped.
    pub torn: bool,
}

#[derive(Debug, PartialEq, thiserror::Error)]
pub enum LogError {
    #[error("the tag `{0}` holds a comma, a space or a line end")]
    Tag(String),
    #[error("line {line}: expected `[Tag=…,]start,length,max,histogram` with numbers in seconds")]
    Line { line: usize },
    #[error("line {line}: {error}")]
    Histogram { line: usize, error: CodecError },
}

/// The lines that open a log started `start_time_s` seconds after the Unix epoch.
#[must_use]
pub fn header(start_time_s: f64) -> String {
    format!(
        "#[Histogram log format version 1.3]\n\
         #[StartTime: {start_time_s:.3} (seconds since epoch), {}]\n\
         #[BaseTime: {start_time_s:.3} (seconds since epoch)]\n\
         {LEGEND}\n",
        utc_text(start_time_s)
    )
}

/// The line of one histogram, with its end.
///
/// # Errors
/// The tag would not survive reading.
pub fn line(entry: &Entry) -> Result<String, LogError> {
    let Entry { tag, start_s, duration_s, histogram } = entry;
    if tag.contains([',', ' ', '\n', '\r']) {
        return Err(LogError::Tag(tag.clone()));
    }
    let prefix = if tag.is_empty() { String::new() } else { format!("Tag={tag},") };
    let max = histogram.max() as f64 / MAX_UNIT_NS;
    Ok(format!("{prefix}{start_s:.3},{duration_s:.3},{max:.3},{}\n", encode(histogram)))
}

/// Reads a whole log; a last line without an end is dropped and said.
///
/// # Errors
/// A complete line that is neither a comment, nor the legend, nor a histogram's.
pub fn read(text: &str) -> Result<Log, LogError> {
    let mut log = Log::default();
    let mut base_time_s = None;
    for (place, raw) in text.split_inclusive('\n').enumerate() {
        let Some(complete) = raw.strip_suffix('\n') else {
            log.torn = true;
            break;
        };
        let content = complete.trim_end_matches('\r');
        if let Some(comment) = content.strip_prefix('#') {
            log.start_time_s = stamp(comment, "[StartTime:").unwrap_or(log.start_time_s);
            base_time_s = stamp(comment, "[BaseTime:").or(base_time_s);
        } else if !content.is_empty() && !content.starts_with('"') {
            log.entries.push(read_entry(content, place + 1)?);
        }
    }
    let relative =
        log.entries.first().is_none_or(|entry| entry.start_s < log.start_time_s - YEAR_S);
    let base_time_s = base_time_s.unwrap_or(if relative { log.start_time_s } else { 0.0 });
    for entry in &mut log.entries {
        entry.start_s += base_time_s - log.start_time_s;
    }
    Ok(log)
}

fn read_entry(content: &str, line: usize) -> Result<Entry, LogError> {
    let malformed = || LogError::Line { line };
    let (tag, fields) = match content.strip_prefix("Tag=") {
        Some(tagged) => tagged.split_once(',').ok_or_else(malformed)?,
        None => ("", content),
    };
    let fields: Vec<&str> = fields.split(',').collect();
    let [start, duration, _, payload] = fields[..] else { return Err(malformed()) };
    let seconds = |text: &str| {
        text.trim().parse::<f64>().ok().filter(|value| value.is_finite()).ok_or_else(malformed)
    };
    Ok(Entry {
        tag: tag.to_owned(),
        start_s: seconds(start)?,
        duration_s: seconds(duration)?,
        histogram: decode(payload.trim()).map_err(|error| LogError::Histogram { line, error })?,
    })
}

/// The seconds of a comment such as `[StartTime: 1441812279.474 (seconds since epoch), …]`.
fn stamp(comment: &str, name: &str) -> Option<f64> {
    let text = comment.strip_prefix(name)?.trim_start();
    let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
    text[..end].parse().ok()
}

/// A time after the epoch as `2026-01-31T23:59:59Z`.
///
/// Source of the calendar arithmetic: Hinnant, "chrono-Compatible Low-Level Date Algorithms".
fn utc_text(since_epoch_s: f64) -> String {
    let seconds = since_epoch_s.max(0.0) as u64;
    let (day, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day_of_era) = (day / 146_097, day % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day_of_month:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod damaged;

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(tag: &str, values: &[u64]) -> Entry {
        let histogram = Histogram::from_values(values.iter().copied());
        Entry { tag: tag.to_owned(), start_s: 12.5, duration_s: 1.25, histogram }
    }

    #[test]
    fn a_log_is_read_as_it_was_written() {
        let entries =
            vec![entry("consensus.search.response", &[1, 5_000, 70_000_000]), entry("", &[])];
        let mut text = header(1_441_812_279.474);
        entries.iter().for_each(|entry| text.push_str(&line(entry).expect("the tag is allowed")));
        let expected = Log { start_time_s: 1_441_812_279.474, entries, torn: false };
        assert_eq!(read(&text), Ok(expected));
    }

    #[test]
    fn absolute_stamps_of_other_tools_become_relative_to_the_start() {
        let payload = encode(&Histogram::default());
        let start = "#[StartTime: 1441812279.5 (seconds since epoch), a day]\n";
        let text = format!("{start}1441812280.0,1.0,0.0,{payload}\n");
        assert_eq!(read(&text).map(|log| log.entries[0].start_s), Ok(0.5));
        let text = format!("{start}0.25,1.0,0.0,{payload}\r\n");
        assert_eq!(read(&text).map(|log| log.entries[0].start_s), Ok(0.25));
    }

    #[test]
    fn a_torn_last_line_is_dropped_and_said_wherever_it_tears() {
        let whole = header(0.0) + &line(&entry("a.b.service", &[9])).expect("the tag is allowed");
        let last = line(&entry("a.b.response", &[7, 8])).expect("the tag is allowed");
        for length in 1..last.len() {
            let log = read(&format!("{whole}{}", &last[..length])).expect("what is whole is read");
            assert_eq!((log.entries.len(), log.torn), (1, true));
        }
    }

    #[test]
    fn a_damaged_line_is_named_by_its_number() {
        let text = header(0.0) + "Tag=a,1,2,3,HISTnonsense\n";
        assert!(matches!(read(&text), Err(LogError::Histogram { line: 5, .. })));
        assert_eq!(read("1.0,2.0,nothing\n"), Err(LogError::Line { line: 1 }));
        assert_eq!(read("NaN,2.0,3,HIST\n"), Err(LogError::Line { line: 1 }));
    }

    #[test]
    fn a_tag_that_would_break_the_line_is_refused() {
        assert!(matches!(line(&entry("a,b", &[])), Err(LogError::Tag(_))));
        assert!(matches!(line(&entry("a\nb", &[])), Err(LogError::Tag(_))));
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(utc_text(0.0), "1970-01-01T00:00:00Z");
        assert_eq!(utc_text(951_827_696.9), "2000-02-29T12:34:56Z");
        assert_eq!(utc_text(1_798_761_599.0), "2026-12-31T23:59:59Z");
    }
}
