//! What is wrong with a configuration, told so that it can be put right at once.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

/// Whether a finding keeps the relay from starting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can, but its operator should know.
    Warning,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// Where, as byte offsets into the file; `None` if it is about the file as a whole.
    pub span: Option<Range<usize>>,
    /// A short note at the caret.
    pub label: Option<String>,
    /// Another place that belongs to it, with its note.
    pub context: Option<(Range<usize>, String)>,
    /// What to do about it.
    pub help: Option<String>,
}

impl Diagnostic {
    /// An error at `span`.
    #[must_use]
    pub fn error(span: Range<usize>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            message: message.into(),
            span: Some(span),
            label: None,
            context: None,
            help: None,
        }
    }

    /// A warning at `span`.
    #[must_use]
    pub fn warning(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(span, message) }
    }

    /// An error about the file as a whole.
    #[must_use]
    pub fn about_file(message: impl Into<String>) -> Self {
        Self { span: None, ..Self::error(0..0, message) }
    }

    /// The same with a note at the caret.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// The same with advice.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The same with a second place.
    #[must_use]
    pub fn context(mut self, span: Range<usize>, note: impl Into<String>) -> Self {
        self.context = Some((span, note.into()));
        self
    }
}

/// All findings about one file, in the order of the file.
#[derive(Clone)]
pub struct Report {
    path: PathBuf,
    source: Arc<str>,
    diagnostics: Vec<Diagnostic>,
}

impl Report {
    /// A report about `source`, which was read from `path`. The text of each `hidden` range is
    /// shown as asterisks.
    #[must_use]
    pub(super) fn new(
        path: &Path,
        source: &str,
        hidden: &[Range<usize>],
        mut diagnostics: Vec<Diagnostic>,
    ) -> Self {
        diagnostics.sort_by_key(|d| d.span.as_ref().map_or(usize::MAX, |span| span.start));
        let source = masked(source, hidden).into();
        Self { path: path.to_owned(), source, diagnostics }
    }

    /// A report that `path` cannot be read at all.
    #[must_use]
    pub fn unreadable(path: &Path, reason: impl fmt::Display) -> Self {
        let message = format!("cannot read {}: {reason}", path.display());
        Self::new(path, "", &[], vec![Diagnostic::about_file(message)])
    }

    /// The findings, errors and warnings.
    #[must_use]
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }

    /// How many are errors.
    #[must_use]
    pub fn errors(&self) -> usize {
        self.diagnostics.iter().filter(|d| d.severity == Severity::Error).count()
    }

    /// How many are warnings.
    #[must_use]
    pub fn warnings(&self) -> usize {
        self.diagnostics.len() - self.errors()
    }

    /// Line and column of a finding, both from 1; columns count characters.
    #[must_use]
    pub fn position(&self, diagnostic: &Diagnostic) -> Option<(usize, usize)> {
        let before = self.source.get(..diagnostic.span.as_ref()?.start)?;
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = before.matches('\n').count() + 1;
        Some((line, before[line_start..].chars().count() + 1))
    }

    /// One line for each finding, for a log: `file:line:column: warning: message; help`.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.diagnostics.iter().map(|diagnostic| self.line(diagnostic)).collect()
    }

    fn line(&self, diagnostic: &Diagnostic) -> String {
        let place = match self.position(diagnostic) {
            Some((line, column)) => format!("{}:{line}:{column}", self.path.display()),
            None => self.path.display().to_string(),
        };
        let severity = match diagnostic.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let help = diagnostic.help.as_deref().map(|help| format!("; {help}")).unwrap_or_default();
        format!("{place}: {severity}: {}{help}", diagnostic.message)
    }

    /// The whole report with source lines and carets; with colours if `is_coloured`.
    #[must_use]
    pub fn render(&self, is_coloured: bool) -> String {
        let renderer = if is_coloured { Renderer::styled() } else { Renderer::plain() };
        let path = self.path.display().to_string();
        let rendered: Vec<String> = self
            .diagnostics
            .iter()
            .map(|diagnostic| renderer.render(&[self.group(diagnostic, &path)]))
            .collect();
        rendered.join("\n\n")
    }

    fn group<'a>(&'a self, diagnostic: &'a Diagnostic, path: &'a str) -> Group<'a> {
        let level = match diagnostic.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let title = level.primary_title(diagnostic.message.as_str());
        let mut group = match &diagnostic.span {
            None => title.element(Origin::path(path)),
            Some(span) => {
                let mut primary = AnnotationKind::Primary.span(span.clone());
                if let Some(label) = &diagnostic.label {
                    primary = primary.label(label.as_str());
                }
                let mut snippet = Snippet::source(&*self.source).path(path).annotation(primary);
                if let Some((span, note)) = &diagnostic.context {
                    let context = AnnotationKind::Context.span(span.clone());
                    snippet = snippet.annotation(context.label(note.as_str()));
                }
                title.element(snippet)
            }
        };
        if let Some(help) = &diagnostic.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        group
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.lines()).finish()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Report {}

/// `source` with each byte of the hidden ranges replaced, so that offsets stay.
fn masked(source: &str, hidden: &[Range<usize>]) -> String {
    let mut bytes = source.as_bytes().to_vec();
    for range in hidden {
        if let Some(bytes) = bytes.get_mut(range.clone()) {
            bytes.fill(b'*');
        }
    }
    String::from_utf8(bytes).unwrap_or_default()
}
