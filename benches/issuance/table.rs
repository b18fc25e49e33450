//! What was measured, as people read it.

use std::time::Duration;

/// One peer.
pub(crate) struct Row {
    pub peer: String,
    /// Wall time of each warm order.
    pub times: Vec<Duration>,
    /// Requests of the first order ever, directory and account included.
    pub first: usize,
    /// Requests of warm orders, the least and the most.
    pub warm: (usize, usize),
    /// Processor time of one warm order.
    pub cpu: Duration,
}

impl Row {
    /// The time that this share of the orders did not take longer than.
    fn quantile(&self, share: f64) -> Duration {
        let mut times = self.times.clone();
        times.sort_unstable();
        let nth = (share * times.len() as f64).ceil() as usize;
        times[nth.clamp(1, times.len()) - 1]
    }
}

/// Prints the rows; what is the multiple of what the first one took stands in the column `×`.
pub(crate) fn print(rows: &[Row]) {
    println!(
        "\n{:<30} {:>6} {:>10} {:>10} {:>10} {:>10} {:>6} {:>6} {:>10} {:>8}",
        "peer", "orders", "median", "p90", "p99", "max", "first", "warm", "CPU", "×"
    );
    let base = rows.first().map(|row| row.quantile(0.5).as_secs_f64());
    for row in rows {
        let (least, most) = row.warm;
        let warm = match least == most {
            true => most.to_string(),
            false => format!("{least}-{most}"),
        };
        let times = row.quantile(0.5).as_secs_f64() / base.unwrap_or(1.0);
        println!(
            "{:<30} {:>6} {:>10} {:>10} {:>10} {:>10} {:>6} {:>6} {:>10} {:>8.1}",
            row.peer,
            row.times.len(),
            shown(row.quantile(0.5)),
            shown(row.quantile(0.9)),
            shown(row.quantile(0.99)),
            shown(row.quantile(1.0)),
            row.first,
            warm,
            shown(row.cpu),
            times
        );
    }
    println!(
        "\nfirst, warm: HTTPS requests of the first order ever, and of one whose account and directory are known.\n\
         CPU: the client's processor time for one warm order. ×: the median as a multiple of the first row's."
    );
}

/// Milliseconds, or seconds when there are many.
pub(crate) fn shown(time: Duration) -> String {
    match time.as_secs() {
        0..10 => format!("{:.1} ms", time.as_secs_f64() * 1e3),
        _ => format!("{:.1} s", time.as_secs_f64()),
    }
}
