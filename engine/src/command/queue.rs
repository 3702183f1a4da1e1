//! `postern queue`: looks at queued mail, and changes its fate.

use super::{Failure, GlobalOptions};
use crate::order::{self, Answer, Request};

/// Arguments of `postern queue`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to do
    #[command(subcommand)]
    pub action: Action,
}

/// What to do with queued mail.
#[derive(Debug, clap::Subcommand)]
pub enum Action {
    /// List queued deliveries, oldest first
    List {
        /// Which ones
        #[command(flatten)]
        filter: Filter,
        /// Most lines
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: usize,
    },
    /// Show one message: envelope, recipients, where each stands
    Show {
        /// Queue id
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Try deliveries now, also those that have failed
    Retry {
        /// Which ones
        #[command(flatten)]
        filter: Filter,
        /// Every delivery; needed where no filter is given
        #[arg(long)]
        all: bool,
    },
    /// Forget messages for good, without telling anybody
    Drop {
        /// Which ones
        #[command(flatten)]
        filter: Filter,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// Which messages are meant; what is not given matches all.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Filter {
    /// Queue id
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// Application
    #[arg(long, value_name = "APP")]
    pub app: Option<String>,
    /// Recipient domain
    #[arg(long, value_name = "DOMAIN")]
    pub domain: Option<String>,
    /// Lane
    #[arg(long, value_name = "LANE", value_parser = ["urgent", "normal", "bulk"])]
    pub lane: Option<String>,
    /// State
    #[arg(long, value_name = "STATE",
          value_parser = ["ready", "deferred", "leased", "frozen", "held", "failed"])]
    pub state: Option<String>,
}

/// Does what the command line says.
///
/// # Errors
/// What went wrong, for standard error.
pub fn execute(args: &Args, options: &GlobalOptions) -> Result<(), Failure> {
    match &args.action {
        Action::List { filter, limit } => list(filter, *limit, options),
        Action::Show { id } => show(id, options),
        Action::Retry { filter, all } => {
            if !all && filter.is_empty() {
                return Err(Failure::usage("name what to retry, or say --all"));
            }
            change(&Request::QueueRetry { filter: filter.into() }, "made due", options)
        }
        Action::Drop { filter, yes } => {
            if filter.is_empty() {
                return Err(Failure::usage("name what to drop; the whole queue is never dropped"));
            }
            if !yes && !super::confirm("Drop these messages for good, without telling anybody?")? {
                return Err(Failure::problem("nothing was dropped"));
            }
            change(&Request::QueueDrop { filter: filter.into() }, "dropped", options)
        }
    }
}

impl Filter {
    fn is_empty(&self) -> bool {
        order::Filter::from(self) == order::Filter::default()
    }
}

impl From<&Filter> for order::Filter {
    fn from(filter: &Filter) -> Self {
        Self {
            id: filter.id.clone(),
            app: filter.app.clone(),
            domain: filter.domain.clone(),
            lane: filter.lane.clone(),
            state: filter.state.clone(),
        }
    }
}

fn list(filter: &Filter, limit: usize, options: &GlobalOptions) -> Result<(), Failure> {
    let request = Request::QueueList { filter: filter.into(), limit };
    let Answer::Listed { deliveries } = options.ask(&request)? else {
        return Err(Failure::unexpected());
    };
    if options.json {
        return options.print_json(&deliveries);
    }
    for delivery in &deliveries {
        println!(
            "{} {:8} {:6} {:5} s  app {}  to {} recipients at {}{}",
            delivery.id,
            delivery.state,
            delivery.lane,
            delivery.age_s,
            delivery.app,
            delivery.recipients,
            delivery.domain,
            delivery.due_in_s.map(|due| format!(", next try in {due} s")).unwrap_or_default(),
        );
        if let Some(last) = &delivery.last {
            println!("    after {} attempts: {}", delivery.attempts, escape(last));
        }
    }
    println!("{} deliveries", deliveries.len());
    Ok(())
}

fn show(id: &str, options: &GlobalOptions) -> Result<(), Failure> {
    let request = Request::QueueShow { id: id.to_owned() };
    let Answer::Shown(shown) = options.ask(&request)? else { return Err(Failure::unexpected()) };
    if options.json {
        return options.print_json(&shown);
    }
    println!("id        {}", shown.id);
    println!("app       {}", shown.app);
    println!("lane      {}", shown.lane);
    println!("from      <{}>", escape(&shown.reverse_path));
    println!("bytes     {}", shown.bytes);
    println!("core      {}", shown.shard);
    for recipient in &shown.recipients {
        let last = recipient.last.as_deref().map(escape).unwrap_or_default();
        println!("to        <{}> {} {last}", escape(&recipient.path), recipient.state);
    }
    Ok(())
}

fn change(request: &Request, done: &str, options: &GlobalOptions) -> Result<(), Failure> {
    let answer = options.ask(request)?;
    if options.json {
        return options.print_json(&answer);
    }
    let Answer::Changed { count } = answer else { return Err(Failure::unexpected()) };
    println!("{count} {done}");
    Ok(())
}

/// What a next hop said may hold anything; a terminal must not obey it.
fn escape(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}
