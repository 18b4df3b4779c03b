//! What can be asked for, by method and path.

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;

use super::{
    Admin, Answered,
    api::{self, Body, Fault},
    change::{self, read},
    dashboard::{self, Asset},
    guard::{self, Shown, Visitor},
    log, probes,
};
use crate::{config, net, observe::metrics, reload::command::Command, takeover};

/// What can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    Page(Asset),
    Events,
    Ring,
    Livez,
    Readyz,
    Metrics,
    Config,
    Explain,
    Backends,
    Limits,
    Log,
    Status,
    Drain,
    Undrain,
    Reload,
    ChangeLog,
    TakeOver,
}

const ROUTES: [(&str, Method, Route); 19] = [
    ("/", Method::GET, Route::Page(Asset::Page)),
    ("/dashboard.css", Method::GET, Route::Page(Asset::Style)),
    ("/dashboard.js", Method::GET, Route::Page(Asset::Script)),
    ("/events", Method::GET, Route::Events),
    ("/ring", Method::GET, Route::Ring),
    ("/livez", Method::GET, Route::Livez),
    ("/readyz", Method::GET, Route::Readyz),
    ("/metrics", Method::GET, Route::Metrics),
    ("/config", Method::GET, Route::Config),
    ("/explain", Method::POST, Route::Explain),
    ("/status", Method::GET, Route::Status),
    ("/backends", Method::GET, Route::Backends),
    ("/limits", Method::GET, Route::Limits),
    ("/log", Method::GET, Route::Log),
    ("/drain", Method::POST, Route::Drain),
    ("/undrain", Method::POST, Route::Undrain),
    ("/reload", Method::POST, Route::Reload),
    ("/log", Method::POST, Route::ChangeLog),
    (takeover::TARGET, Method::POST, Route::TakeOver),
];

impl Route {
    /// What a request asks for.
    fn of(method: &Method, path: &str) -> Result<Self, Fault> {
        let mut here = ROUTES.iter().filter(|(at, ..)| *at == path);
        let (_, first, _) = here
            .clone()
            .next()
            .ok_or_else(|| Fault::not_found(path, &endpoints()))?;
        let fits =
            |right: &Method| method == right || (right == Method::GET && method == Method::HEAD);
        let found = here.find(|(_, right, _)| fits(right));
        found
            .map(|(.., route)| *route)
            .ok_or_else(|| Fault::method(path, first))
    }

    /// Whether it changes something.
    fn changes(self) -> bool {
        match self {
            Self::Page(_)
            | Self::Events
            | Self::Ring
            | Self::Livez
            | Self::Readyz
            | Self::Metrics
            | Self::Config
            | Self::Explain // asked by POST, so that no id stands in a URL
            | Self::Backends
            | Self::Limits
            | Self::Log
            | Self::Status => false,
            Self::Drain | Self::Undrain | Self::Reload | Self::ChangeLog | Self::TakeOver => true,
        }
    }
}

/// All endpoints, for whoever asks for another.
fn endpoints() -> String {
    let others = ROUTES
        .iter()
        .filter(|(_, _, route)| *route != Route::TakeOver);
    let others: Vec<String> = others
        .map(|(path, method, _)| format!("{method} {path}"))
        .collect();
    others.join(", ")
}

impl Admin {
    pub(super) async fn answer(
        &self,
        request: Request<Incoming>,
        visitor: Visitor,
    ) -> Response<Body> {
        let answered = self.route(request, visitor).await;
        answered.unwrap_or_else(Fault::response)
    }

    async fn route(&self, request: Request<Incoming>, visitor: Visitor) -> Answered {
        let (head, body) = request.into_parts();
        let route = Route::of(&head.method, head.uri.path());
        match visitor {
            Visitor::Owner(_) => {}
            Visitor::Remote(_) => {
                let changes = route.as_ref().is_ok_and(|route| route.changes());
                let token = if changes || guard::bearer(&head.headers).is_some() {
                    self.process
                        .writer
                        .ask(Command::Standing)
                        .await?
                        .config
                        .server
                        .admin_token
                        .clone()
                } else {
                    None
                };
                let shown = Shown::of(&head.headers, token.as_ref());
                guard::check_page(&head, shown)?;
                if changes {
                    guard::check_token(shown, token.as_ref())?;
                }
            }
        }
        match route? {
            Route::Page(asset) => Ok(dashboard::asset(asset)),
            Route::Events => Ok(self.events()),
            Route::Ring => self.ring(&head),
            Route::Livez => Ok(probes::alive()),
            Route::Readyz => self.readiness(&head).await,
            Route::Metrics => Ok(self.metrics()),
            Route::Config => self.config().await,
            Route::Explain => {
                let wanted = read(body).await?;
                self.explain(wanted).await
            }
            Route::Backends => self.backends().await,
            Route::Limits => Ok(self.limits()),
            Route::Log => log::show(),
            Route::Status => self.status().await,
            Route::Drain => {
                let wanted = read(body).await?;
                change::to_its_end(self.clone().drain(wanted, visitor)).await
            }
            Route::Undrain => {
                let wanted = read(body).await?;
                change::to_its_end(self.clone().undrain(wanted, visitor)).await
            }
            Route::Reload => change::to_its_end(self.clone().reload(visitor)).await,
            Route::ChangeLog => log::change(read(body).await?, visitor),
            Route::TakeOver => self.take_over(Request::from_parts(head, body), visitor),
        }
    }

    async fn backends(&self) -> Answered {
        let views = self.process.writer.ask(Command::Backends).await?;
        let now = net::now();
        let backends = views.iter().map(|view| api::Backend::of(view, now));
        let backends = api::Backends {
            backends: backends.collect(),
            counts: (self.process.counters.0)(),
        };
        Ok(api::json(StatusCode::OK, &backends))
    }

    pub(super) fn metrics(&self) -> Response<Body> {
        let text = self.process.metrics.openmetrics();
        api::whole(StatusCode::OK, metrics::CONTENT_TYPE, text)
    }

    async fn config(&self) -> Answered {
        let standing = self.process.writer.ask(Command::Standing).await?;
        let document = config::effective(&standing.config);
        Ok(api::json(StatusCode::OK, &document))
    }

    fn limits(&self) -> Response<Body> {
        let process = &self.process;
        let limits = api::Limits::of(process.connections.count(), &process.reached);
        api::json(StatusCode::OK, &limits)
    }
}
