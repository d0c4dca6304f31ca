//! Which script an interpreter was given, by its arguments.
//!
//! What the kernel makes of a `#!` line looks the same: interpreter, perhaps one
//! argument, path of the script. A script on standard input is not in the arguments,
//! and so is not known.

use sensor_api::ObservedImage;

/// A script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Script {
    /// Its text, among the arguments.
    Inline(String),
    /// Its path, as given.
    File(String),
    /// A path that is a script's if its first line names this interpreter.
    Unlikely {
        /// The path.
        path: String,
        /// As the process was told that it is called.
        interpreter: String,
    },
}

/// How an interpreter takes its options.
struct Interpreter {
    /// Its names; a version at the end is left out (`python3.11`).
    names: &'static [&'static str],
    /// Letters whose value is a text to run.
    text: &'static str,
    /// The text is the first argument that is no option, as with shells.
    text_follows: bool,
    /// Letters with a value: in the same argument, else in the next.
    value: &'static str,
    /// Letters whose value, if there is one, is in the same argument.
    attached: &'static str,
    /// Letters after which there is neither script nor text.
    none: &'static str,
    /// Letters whose value is the script's path.
    file: &'static str,
    /// Long options whose value is a text to run.
    long_text: &'static [&'static str],
    /// Long options whose value is the next argument.
    long_value: &'static [&'static str],
    /// Without a file, the first argument is the text.
    first_is_text: bool,
}

const PLAIN: Interpreter = Interpreter {
    names: &[],
    text: "",
    text_follows: false,
    value: "",
    attached: "",
    none: "",
    file: "",
    long_text: &[],
    long_value: &[],
    first_is_text: false,
};

/// As their manuals have it: bash(1), dash(1), zshoptions(1), python(1), perlrun(1),
/// ruby(1), php(1), node(1), lua(1), gawk(1).
const INTERPRETERS: [Interpreter; 8] = [
    Interpreter {
        names: &["sh", "bash", "dash", "ash", "zsh", "ksh", "mksh", "fish"],
        text: "c",
        text_follows: true,
        value: "oO",
        none: "s",
        long_value: &["rcfile", "init-file"],
        ..PLAIN
    },
    Interpreter {
        names: &["python", "pypy"],
        text: "c",
        value: "WXQ",
        none: "m",
        long_value: &["check-hash-based-pycs"],
        ..PLAIN
    },
    Interpreter { names: &["perl"], text: "eE", value: "I", attached: "iMmxFDCd", ..PLAIN },
    Interpreter { names: &["ruby"], text: "e", value: "IrCEK", attached: "iFxTW", ..PLAIN },
    Interpreter {
        names: &["php", "php-cgi"],
        text: "rBRE",
        value: "dcztS",
        none: "a",
        file: "fF",
        long_text: &["run", "process-begin", "process-code", "process-end"],
        long_value: &["define", "php-ini"],
        ..PLAIN
    },
    Interpreter {
        names: &["node", "nodejs"],
        text: "ep",
        value: "rC",
        long_text: &["eval", "print"],
        long_value: &["require", "import", "loader", "conditions"],
        ..PLAIN
    },
    Interpreter { names: &["lua", "luajit"], text: "e", value: "lj", ..PLAIN },
    Interpreter {
        names: &["awk", "gawk", "mawk", "nawk"],
        text: "e",
        value: "FvilW",
        file: "fE",
        long_text: &["source"],
        long_value: &["field-separator", "assign", "include", "load"],
        first_is_text: true,
        ..PLAIN
    },
];

/// The script that this process was started with, if it was with one.
pub(super) fn of(image: &ObservedImage) -> Option<Script> {
    let name = image.executable.rsplit('/').next()?;
    let name = match name {
        // One program under many names: what it was called decides.
        "busybox" => image.args.first()?.rsplit('/').next()?,
        name => name,
    };
    match INTERPRETERS.iter().find(|known| known.is_called(name)) {
        Some(interpreter) => interpreter.script(image.args.get(1..)?),
        None => unlikely(image),
    }
}

/// Interpreters that nobody listed: the kernel calls them by the whole path that the
/// script's first line has, which hardly anybody else does.
fn unlikely(image: &ObservedImage) -> Option<Script> {
    let interpreter = image.args.first().filter(|name| name.starts_with('/'))?;
    // Without or with one argument between.
    let path = image.args.iter().skip(1).take(2).find(|arg| !arg.starts_with('-') && arg.contains('/'))?;
    Some(Script::Unlikely { path: path.clone(), interpreter: interpreter.clone() })
}

impl Interpreter {
    fn is_called(&self, name: &str) -> bool {
        let plain =
            name.trim_end_matches(|letter: char| letter.is_ascii_digit() || matches!(letter, '.' | '-'));
        self.names.contains(&plain)
    }

    fn script(&self, args: &[String]) -> Option<Script> {
        let mut args = args.iter();
        let mut texts: Vec<&str> = Vec::new();
        let mut text_follows = false;
        while let Some(arg) = args.next() {
            if arg == "--" {
                let first = args.next();
                return self.end(texts, text_follows, first);
            }
            if let Some(long) = arg.strip_prefix("--") {
                let (name, value) =
                    long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
                if self.long_text.contains(&name) {
                    texts.extend(value.or_else(|| args.next().map(String::as_str)));
                } else if value.is_none() && self.long_value.contains(&name) {
                    args.next();
                }
                continue;
            }
            let option =
                arg.strip_prefix('-').or_else(|| arg.strip_prefix('+').filter(|_| self.text_follows));
            let Some(letters) = option.filter(|letters| !letters.is_empty()) else {
                let first = Some(arg).filter(|arg| *arg != "-");
                return self.end(texts, text_follows, first);
            };
            for (at, letter) in letters.char_indices() {
                let rest = letters.get(at + letter.len_utf8()..).unwrap_or_default();
                let mut value = || if rest.is_empty() { args.next().map(String::as_str) } else { Some(rest) };
                if self.text.contains(letter) {
                    if self.text_follows {
                        text_follows = true;
                        continue;
                    }
                    texts.extend(value());
                } else if self.file.contains(letter) {
                    return value().map(|path| Script::File(path.to_owned()));
                } else if self.value.contains(letter) {
                    value();
                } else if self.none.contains(letter) {
                    return None;
                } else if !self.attached.contains(letter) {
                    continue;
                }
                break;
            }
        }
        self.end(texts, text_follows, None)
    }

    /// What it is, once the options are over.
    fn end(&self, texts: Vec<&str>, text_follows: bool, first: Option<&String>) -> Option<Script> {
        if !texts.is_empty() {
            return Some(Script::Inline(texts.join("\n")));
        }
        let first = first?.clone();
        Some(if text_follows || self.first_is_text { Script::Inline(first) } else { Script::File(first) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_line(executable: &str, args: &[&str]) -> Option<Script> {
        of(&ObservedImage {
            executable: executable.to_owned(),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            ..ObservedImage::default()
        })
    }

    fn inline(text: &str) -> Option<Script> {
        Some(Script::Inline(text.to_owned()))
    }

    fn file(path: &str) -> Option<Script> {
        Some(Script::File(path.to_owned()))
    }

    #[test]
    fn shells() {
        let sh = |args: &[&str]| of_line("/usr/bin/dash", args);
        assert_eq!(sh(&["sh", "-c", "id; who", "name"]), inline("id; who"));
        assert_eq!(sh(&["sh", "-ec", "id"]), inline("id"));
        assert_eq!(sh(&["sh", "-c", "-e", "id"]), inline("id"));
        assert_eq!(sh(&["sh", "-o", "pipefail", "+x", "./run.sh", "-c"]), file("./run.sh"));
        assert_eq!(sh(&["/bin/sh", "/tmp/x"]), file("/tmp/x"));
        assert_eq!(sh(&["sh", "--", "-odd"]), file("-odd"));
        assert_eq!(sh(&["sh"]), None);
        assert_eq!(sh(&["-sh"]), None);
        assert_eq!(sh(&["sh", "-s", "arg"]), None, "on standard input");
        assert_eq!(of_line("/bin/bash", &["bash", "--rcfile", "x", "-lc", "id"]), inline("id"));
        assert_eq!(of_line("/bin/busybox", &["ash", "-c", "id"]), inline("id"));
        assert_eq!(of_line("/bin/busybox", &["ls", "-c"]), None);
    }

    #[test]
    fn others() {
        let python = |args: &[&str]| of_line("/usr/bin/python3.11", args);
        assert_eq!(python(&["python3", "-c", "import os"]), inline("import os"));
        assert_eq!(python(&["python3", "-Sc", "import os"]), inline("import os"));
        assert_eq!(python(&["python3", "-cimport os"]), inline("import os"));
        assert_eq!(python(&["python3", "-W", "ignore", "-u", "a.py", "-c", "x"]), file("a.py"));
        assert_eq!(python(&["python3", "-m", "http.server"]), None);
        assert_eq!(python(&["python3", "-"]), None);
        let perl = |args: &[&str]| of_line("/usr/bin/perl", args);
        assert_eq!(perl(&["perl", "-lane", "print", "-e", "exit"]), inline("print\nexit"));
        assert_eq!(perl(&["perl", "-MIO::Socket", "-i.bak", "x.pl"]), file("x.pl"));
        assert_eq!(
            of_line("/usr/bin/php8.2", &["php", "-d", "a=b", "-r", "phpinfo();"]),
            inline("phpinfo();")
        );
        assert_eq!(of_line("/usr/bin/php8.2", &["php", "-f", "a.php"]), file("a.php"));
        assert_eq!(of_line("/usr/bin/node", &["node", "--eval=1", "x"]), inline("1"));
        assert_eq!(of_line("/usr/bin/node", &["node", "-r", "mod", "x.js"]), file("x.js"));
        assert_eq!(of_line("/usr/bin/ruby3.1", &["ruby", "-rsocket", "-e", "exit"]), inline("exit"));
        assert_eq!(of_line("/usr/bin/lua5.4", &["lua", "-l", "os", "x.lua"]), file("x.lua"));
        assert_eq!(of_line("/usr/bin/mawk", &["awk", "-F", ":", "{print $1}", "f"]), inline("{print $1}"));
        assert_eq!(of_line("/usr/bin/mawk", &["awk", "-f", "x.awk", "f"]), file("x.awk"));
        assert_eq!(of_line("/usr/bin/ls", &["ls", "-c", "/tmp"]), None);
    }

    #[test]
    fn one_that_nobody_listed_is_looked_at() {
        let script = of_line("/opt/x/tool", &["/opt/x/tool", "-q", "/home/a/run.x", "1"]);
        let expected =
            Script::Unlikely { path: "/home/a/run.x".to_owned(), interpreter: "/opt/x/tool".to_owned() };
        assert_eq!(script, Some(expected));
    }

    #[test]
    fn odd_arguments_do_no_harm() {
        for args in [&[][..], &[""], &["x", ""], &["x", "-"], &["x", "--"], &["x", "-é"], &["x", "--=", "+"]]
        {
            for name in ["sh", "python3", "perl", "ruby", "php", "node", "lua", "awk", "other", ""] {
                let _ = of_line(&format!("/usr/bin/{name}"), args);
            }
        }
    }
}
