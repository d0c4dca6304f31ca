//! Events.

use event_model::Field;

use super::*;
use crate::app::EventFilter;

/// Events, the newest first, with the gaps among them.
#[utoipa::path(get, path = "/events", tag = "events", params(EventQuery), responses((status = 200, body = EventPage)))]
pub(crate) async fn search_events(
    State(app): Application,
    Params(query): Params<EventQuery>,
) -> Answer<Json<EventPage>> {
    let limit = page_size(query.limit)?;
    let filter = EventFilter {
        host: query.host,
        event_type: query.event_type,
        text: query.q,
        fields: query.field,
        from: query.from,
        to: query.to,
    };
    let page = app.work(move |app| app.search_events(&filter, query.cursor.as_deref(), limit)).await?;
    Ok(Json(EventPage {
        items: page.documents.into_iter().map(EcsDocument).collect(),
        next_cursor: page.next,
        gaps_not_shown: page.gaps_not_shown,
    }))
}

/// One event.
#[utoipa::path(get, path = "/events/{id}", tag = "events", params(("id" = String, Path, description = "Id of the event")), responses((status = 200, body = EcsDocument), (status = 404, description = "Not there", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn event(State(app): Application, Id(id): Id) -> Answer<Json<EcsDocument>> {
    Ok(Json(EcsDocument(app.work(move |app| app.event(&id)).await?)))
}

/// Events over time.
#[utoipa::path(get, path = "/events/histogram", tag = "events", params(HistogramQuery), responses((status = 200, body = Vec<HistogramBucket>)))]
pub(crate) async fn histogram(
    State(app): Application,
    Params(query): Params<HistogramQuery>,
) -> Answer<Json<Vec<HistogramBucket>>> {
    let buckets = query.buckets.unwrap_or(60);
    if !(1..=500).contains(&buckets) {
        return Err(AppError::Invalid("`buckets` is 1 to 500".to_owned()).into());
    }
    let counted = app
        .work(move |app| {
            let (host, event_type) = (query.host.as_deref(), query.event_type.as_deref());
            app.histogram(query.from, query.to, buckets, host, event_type)
        })
        .await?;
    let bucket =
        |bucket: &event_store::HistogramBucket| HistogramBucket { start: bucket.start, count: bucket.count };
    Ok(Json(counted.iter().map(bucket).collect()))
}

/// Every field that events can have, with its names in rules.
#[utoipa::path(get, path = "/fields", tag = "events", responses((status = 200, body = Vec<FieldDescription>)))]
pub(crate) async fn fields() -> Answer<Json<Vec<FieldDescription>>> {
    let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
    let fields = Field::ALL.iter().map(|field| {
        let spec = field.spec();
        FieldDescription {
            name: spec.ecs.to_owned(),
            kind: spec.kind,
            rule_names: texts(spec.seed),
            sigma_names: texts(spec.sigma),
            rule_types: spec.scopes.iter().map(|scope| scope.as_str().to_owned()).collect(),
            description: spec.doc.to_owned(),
        }
    });
    Ok(Json(fields.collect()))
}
