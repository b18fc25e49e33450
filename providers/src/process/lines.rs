//! Lines of a stream that somebody else writes: none is kept beyond its cap.

use std::io;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

/// The lines of a stream.
pub(crate) struct Lines<R> {
    from: BufReader<R>,
    most: usize,
    line: Vec<u8>,
    /// The line that is being read was cut already; the rest of it is thrown away.
    is_cut: bool,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// A line without its end.
    Line(Vec<u8>),
    /// The beginning of a line that is longer than the cap.
    Cut(Vec<u8>),
    /// The stream is over, with so many octets of an unfinished line.
    Over(Vec<u8>),
}

impl<R: AsyncRead + Unpin> Lines<R> {
    /// The lines of `from`, each at most `most` octets.
    pub(crate) fn new(from: R, most: usize) -> Self {
        Self {
            from: BufReader::new(from),
            most,
            line: Vec::new(),
            is_cut: false,
        }
    }

    /// The next line. Nothing is lost when nobody waits for it to the end.
    pub(crate) async fn next(&mut self) -> io::Result<Next> {
        loop {
            let found = self.from.fill_buf().await?;
            if found.is_empty() {
                return Ok(Next::Over(std::mem::take(&mut self.line)));
            }
            let end = found.iter().position(|octet| *octet == b'\n');
            let piece = &found[..end.unwrap_or(found.len())];
            let room = self.most - self.line.len();
            let was_cut = self.is_cut;
            if !was_cut {
                self.line.extend_from_slice(&piece[..piece.len().min(room)]);
                self.is_cut = piece.len() > room;
            }
            let is_cut_now = self.is_cut && !was_cut;
            let used = piece.len() + usize::from(end.is_some());
            self.from.consume(used);
            if end.is_some() {
                self.is_cut = false;
            }
            match end {
                _ if is_cut_now => return Ok(Next::Cut(std::mem::take(&mut self.line))),
                Some(_) if !was_cut => return Ok(Next::Line(std::mem::take(&mut self.line))),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn all(text: &[u8], most: usize) -> Vec<Next> {
        let mut lines = Lines::new(text, most);
        let mut all = Vec::new();
        loop {
            all.push(lines.next().await.unwrap());
            if let Some(Next::Over(_)) = all.last() {
                return all;
            }
        }
    }

    #[tokio::test]
    async fn a_long_line_is_cut_once_and_the_next_one_is_whole() {
        let wanted = [
            Next::Line(b"ab".to_vec()),
            Next::Cut(b"abc".to_vec()),
            Next::Line(b"abc".to_vec()),
            Next::Line(Vec::new()),
            Next::Over(b"x".to_vec()),
        ];
        assert_eq!(all(b"ab\nabcdefgh\nabc\n\nx", 3).await, wanted);
    }

    #[tokio::test]
    async fn a_line_that_never_ends_is_thrown_away() {
        let seen = all(&vec![b'x'; 100_000], 3).await;
        assert_eq!(seen, [Next::Cut(b"xxx".to_vec()), Next::Over(Vec::new())]);
    }
}
