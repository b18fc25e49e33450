//! As much of HTTP/1.1 as Amazon's clients speak: one thread a connection, which stays open.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};

/// A request.
#[derive(Clone, Debug, Default)]
pub struct Request {
    pub method: String,
    /// As it was sent.
    pub path: String,
    /// Decoded.
    pub query: Vec<(String, String)>,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub fn query(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// What is done about a request.
pub enum Answer {
    Reply(u16, String),
    /// The connection is broken off.
    Reset,
    /// Nothing, until the client gives up.
    Silence,
    /// Half of a reply, and then the end.
    Half(String),
}

/// Answers every request by `answer`, as long as the process lives.
pub fn serve(answer: impl Fn(Request) -> Answer + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_addr().expect("bound above");
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let answer = answer.clone();
            // An error is a client that went away.
            std::thread::spawn(move || connection(stream, answer));
        }
    });
    address
}

fn connection(stream: TcpStream, answer: impl Fn(Request) -> Answer) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    while let Some(request) = read(&mut reader)? {
        let stream = reader.get_mut();
        let is_last = request.header("connection") == Some("close");
        match answer(request) {
            Answer::Reply(status, body) => {
                let head = head(status, body.len());
                stream.write_all([head.as_bytes(), body.as_bytes()].concat().as_slice())?;
            }
            Answer::Reset => return stream.shutdown(Shutdown::Both),
            Answer::Silence => return reader.read(&mut [0]).map(drop),
            Answer::Half(body) => {
                let head = head(200, body.len() * 2);
                stream.write_all([head.as_bytes(), body.as_bytes()].concat().as_slice())?;
                return stream.shutdown(Shutdown::Both);
            }
        }
        if is_last {
            return stream.shutdown(Shutdown::Both);
        }
    }
    Ok(())
}

fn head(status: u16, length: usize) -> String {
    format!(
        "HTTP/1.1 {status} Said\r\nContent-Type: text/xml\r\nx-amzn-RequestId: r-1\r\nContent-Length: {length}\r\n\r\n"
    )
}

fn read(reader: &mut BufReader<TcpStream>) -> std::io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let method = words.next().unwrap_or_default().to_owned();
    let target = words.next().unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut request = Request {
        method,
        path: path.to_owned(),
        query: pairs(query),
        ..Request::default()
    };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        let (name, value) = (name.to_ascii_lowercase(), value.trim().to_owned());
        request.headers.insert(name, value);
    }
    let length = request
        .header("content-length")
        .and_then(|it| it.parse().ok());
    request.body = vec![0; length.unwrap_or_default()];
    reader.read_exact(&mut request.body)?;
    Ok(Some(request))
}

/// The pairs of a query or a form.
pub fn pairs(text: &str) -> Vec<(String, String)> {
    (url::form_urlencoded::parse(text.as_bytes()))
        .map(|(key, value)| (key.into_owned(), value.into_owned()))
        .collect()
}
