//! The landing page: what this is, how it is doing, where to go. One request, nothing from elsewhere.

use super::api::LandingView;

/// The page at `/`.
pub(super) fn landing(view: &LandingView) -> String {
    let mut figures = String::new();
    for (name, value) in &view.figures {
        figures.push_str(&format!("<div><dt>{}</dt><dd>{}</dd></div>\n", escape(name), escape(value)));
    }
    format!(
        r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>sendwarden</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 42rem; margin: 0 auto; padding: 3rem 1.25rem; }}
h1 {{ font-size: 1.6rem; margin: 0; }}
small {{ font-weight: normal; opacity: .7; }}
dl {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: 1rem; margin: 2rem 0; padding: 0; }}
dl div {{ border-top: 2px solid #2f7d5b; padding-top: .5rem; }}
dt {{ font-size: .85rem; opacity: .75; }}
dd {{ margin: 0; font-size: 1.3rem; font-variant-numeric: tabular-nums; }}
li {{ margin: .3rem 0; }}
</style>
</head>
<body>
<main>
<h1>sendwarden <small>{version}</small></h1>
<p>Follows the mail log of this server and counts what every hosting account sends.</p>
<dl>
{figures}</dl>
<ul>
<li><a href="/metrics">Metrics</a> for Prometheus</li>
<li><a href="/-/healthy">Healthy?</a></li>
<li><a href="/-/ready">Ready?</a></li>
</ul>
</main>
</body>
</html>
"#,
        version = env!("CARGO_PKG_VERSION"),
    )
}

/// Text made safe inside an element.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_escaped() {
        let view = LandingView { figures: vec![("<b>".into(), "\"&'".into())] };
        let page = landing(&view);
        assert!(page.contains("<dt>&lt;b&gt;</dt><dd>&quot;&amp;&#39;</dd>"));
    }
}
