//! The source tree as the laws see it: every path and literal that code outside `#[cfg(test)]` mentions, each path
//! followed through imports, renames, globs, type aliases and re-exports to what it finally names.
//!
//! It over-approximates on purpose: an import inside a function counts for its whole module.
use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::visit::{self, Visit};

/// Segments of a path; `crate` first for our own, the crate's name for others. Macros end in `!`.
pub type Path = Vec<String>;

/// One path or literal in the code of one file.
pub struct Mention {
    pub line: usize,
    pub what: What,
}

pub enum What {
    /// Every stage of following the path: as imported, and as finally named. `glob`: `use path::*`.
    Path { stages: BTreeSet<Path>, glob: bool },
    /// A string, byte string or C string.
    Text(String),
    /// `async` or `.await`.
    Async,
}

/// One file below `src/`.
pub struct File {
    /// Below `src/`, with `/`.
    pub name: String,
    pub text: String,
    pub mentions: Vec<Mention>,
}

impl File {
    /// The room the file belongs to: the first folder or module name; `main` and `lib` for the roots.
    pub fn room(&self) -> &str {
        self.name.split('/').next().unwrap_or_default().trim_end_matches(".rs")
    }

    /// Whether the file is the module `path` (`host/exec`) or inside it.
    pub fn within(&self, path: &str) -> bool {
        self.name.strip_prefix(path).is_some_and(|rest| rest.starts_with('/') || rest.starts_with(".rs"))
    }
}

#[derive(Default)]
struct Scope {
    names: BTreeMap<String, Vec<Path>>,
    globs: Vec<Path>,
}

enum Raw {
    Path(Path, bool),
    Text(String),
    Async,
}

/// Reads files (name below `src/`, text) into what the laws judge. Fails on text that is no Rust.
pub fn read(files: &[(String, String)]) -> Result<Vec<File>, String> {
    let mut house = House::default();
    let mut raws = Vec::new();
    for (name, text) in files {
        let module = module_of(name);
        let parsed = syn::parse_file(text).map_err(|e| format!("{name}: {e}"))?;
        let mut reader = Reader { house: &mut house, module: module.clone(), raws: Vec::new() };
        for end in 1..=module.len() {
            reader.house.modules.entry(module[..end].to_vec()).or_default();
        }
        reader.visit_file(&parsed);
        raws.push((name, text, module, reader.raws));
    }
    let mut out = Vec::new();
    for (name, text, module, raws) in raws {
        let of_tests = (2..=module.len()).any(|n| house.tests.contains(&module[..n]));
        let raws = if of_tests { Vec::new() } else { raws };
        let mentions = raws
            .into_iter()
            .map(|(inside, line, raw)| {
                let what = match raw {
                    Raw::Text(text) => What::Text(text),
                    Raw::Async => What::Async,
                    Raw::Path(path, glob) => What::Path { stages: house.stages(&inside, &path), glob },
                };
                Mention { line, what }
            })
            .collect();
        out.push(File { name: name.clone(), text: text.clone(), mentions });
    }
    Ok(out)
}

fn module_of(name: &str) -> Path {
    let name = name.trim_end_matches(".rs").trim_end_matches("/mod");
    let below = if name == "lib" { "" } else { name };
    std::iter::once("crate").chain(below.split('/').filter(|s| !s.is_empty())).map(str::to_owned).collect()
}

#[derive(Default)]
struct House {
    modules: BTreeMap<Path, Scope>,
    /// Modules declared under `#[cfg(test)]`.
    tests: BTreeSet<Path>,
}

impl House {
    fn stages(&self, module: &[String], path: &[String]) -> BTreeSet<Path> {
        let mut out = BTreeSet::new();
        self.resolve(module, path, &mut BTreeSet::new(), &mut out);
        out
    }

    /// Follows `path` as written in `module`; `seen` ends circles of imports.
    fn resolve(&self, module: &[String], path: &[String], seen: &mut BTreeSet<(Path, Path)>, out: &mut BTreeSet<Path>) {
        let Some(first) = path.first() else { return };
        if !seen.insert((module.to_vec(), path.to_vec())) {
            out.insert(path.to_vec());
            return;
        }
        match first.as_str() {
            "" => {
                out.insert(path[1..].to_vec());
            }
            "crate" | "sendwarden" => self.walk(joined(&["crate".to_owned()], &path[1..]), seen, out),
            "self" => self.resolve_below(module, &path[1..], seen, out),
            "super" => {
                let parent = &module[..module.len().saturating_sub(1).max(1)];
                match path.get(1).map(String::as_str) {
                    Some("super") => self.resolve(parent, &path[1..], seen, out),
                    _ => self.resolve_below(parent, &path[1..], seen, out),
                }
            }
            _ => {
                let before = out.len();
                self.resolve_below(module, path, seen, out);
                // A name that is nothing of ours is another crate's, or the prelude's.
                if out.len() == before || !self.declares(module, first) {
                    out.insert(path.to_vec());
                }
            }
        }
    }

    fn resolve_below(
        &self,
        module: &[String],
        rest: &[String],
        seen: &mut BTreeSet<(Path, Path)>,
        out: &mut BTreeSet<Path>,
    ) {
        self.walk(joined(module, rest), seen, out);
    }

    fn declares(&self, module: &[String], name: &String) -> bool {
        self.modules.get(module).is_some_and(|scope| scope.names.contains_key(name))
            || self.modules.contains_key(&joined(module, std::slice::from_ref(name)))
    }

    /// Walks an absolute path of ours down to where a name is imported from elsewhere, and goes on there.
    fn walk(&self, path: Path, seen: &mut BTreeSet<(Path, Path)>, out: &mut BTreeSet<Path>) {
        let mut here = 1;
        while here < path.len() && self.modules.contains_key(&path[..here + 1]) {
            here += 1;
        }
        // Names of every module on the way may be imports that shadow; the innermost that exists decides.
        if let (Some(scope), Some(name)) = (self.modules.get(&path[..here]), path.get(here)) {
            let module = &path[..here];
            // An import is followed once for each mention: `use a::b::a` or `use std::*` would otherwise go on for ever.
            let imports: Vec<(&Path, &[String])> = match scope.names.get(name) {
                Some(targets) => targets.iter().map(|target| (target, &path[here + 1..])).collect(),
                None => scope.globs.iter().map(|glob| (glob, &path[here..])).collect(),
            };
            for (target, rest) in imports {
                let whole = joined(target, rest);
                if seen.insert((joined(module, &["use".to_owned()]), target.clone())) {
                    self.resolve(module, &whole, seen, out);
                } else {
                    out.insert(whole);
                }
            }
        }
        out.insert(path);
    }
}

fn joined(head: &[String], tail: &[String]) -> Path {
    head.iter().chain(tail).cloned().collect()
}

struct Reader<'h> {
    house: &'h mut House,
    module: Path,
    raws: Vec<(Path, usize, Raw)>,
}

impl Reader<'_> {
    fn note(&mut self, line: usize, raw: Raw) {
        self.raws.push((self.module.clone(), line, raw));
    }

    fn scope(&mut self) -> &mut Scope {
        self.house.modules.entry(self.module.clone()).or_default()
    }

    fn import(&mut self, tree: &syn::UseTree, head: &Path) {
        match tree {
            syn::UseTree::Path(at) => {
                let mut head = head.clone();
                head.push(at.ident.to_string());
                self.import(&at.tree, &head);
            }
            syn::UseTree::Group(group) => group.items.iter().for_each(|item| self.import(item, head)),
            syn::UseTree::Name(leaf) => self.leaf(&leaf.ident, &leaf.ident, head),
            syn::UseTree::Rename(leaf) => self.leaf(&leaf.ident, &leaf.rename, head),
            syn::UseTree::Glob(star) => {
                self.note(star.star_token.spans[0].start().line, Raw::Path(head.clone(), true));
                self.scope().globs.push(head.clone());
            }
        }
    }

    fn leaf(&mut self, ident: &proc_macro2::Ident, name: &proc_macro2::Ident, head: &Path) {
        let mut path = head.clone();
        let mut name = name.to_string();
        if ident == "self" && !head.is_empty() {
            if name == "self" {
                name = head.last().cloned().unwrap_or_default();
            }
        } else {
            path.push(ident.to_string());
        }
        self.note(ident.span().start().line, Raw::Path(path.clone(), false));
        if path.last() != Some(&name) || path.len() > 1 {
            self.scope().names.entry(name).or_default().push(path);
        }
    }

    fn path(&mut self, head: &[String], path: &syn::Path, bang: bool) {
        let Some(first) = path.segments.first() else { return };
        let line = first.ident.span().start().line;
        let lead = path.leading_colon.map(|_| String::new());
        let own = path.segments.iter().map(|s| s.ident.to_string());
        let mut whole: Path = head.iter().cloned().chain(lead).chain(own).collect();
        if let (true, Some(last)) = (bang, whole.last_mut()) {
            last.push('!');
        }
        self.note(line, Raw::Path(whole, false));
    }

    fn literal(&mut self, literal: &syn::Lit) {
        let text = match literal {
            syn::Lit::Str(s) => s.value(),
            syn::Lit::ByteStr(s) => String::from_utf8_lossy(&s.value()).into_owned(),
            syn::Lit::CStr(s) => s.value().to_string_lossy().into_owned(),
            _ => return,
        };
        self.note(literal.span().start().line, Raw::Text(text));
    }

    /// Paths, imports and literals in the unparsed tokens of a macro or an attribute.
    fn tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let colons = |at: usize| {
            matches!((tokens.get(at), tokens.get(at + 1)), (Some(TokenTree::Punct(a)), Some(TokenTree::Punct(b)))
                if a.as_char() == ':' && b.as_char() == ':')
        };
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            at += 1;
            match token {
                TokenTree::Group(group) => self.tokens(group.stream()),
                TokenTree::Literal(literal) => self.literal(&syn::Lit::new(literal.clone())),
                TokenTree::Punct(_) => {}
                TokenTree::Ident(ident) => {
                    let line = ident.span().start().line;
                    let from = at - 1;
                    let mut path = vec![ident.to_string()];
                    while colons(at) {
                        match tokens.get(at + 2) {
                            Some(TokenTree::Ident(next)) => {
                                path.push(next.to_string());
                                at += 3;
                            }
                            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                                let tree: TokenStream = tokens[from..at + 3].iter().cloned().collect();
                                if let Ok(tree) = syn::parse2::<syn::UseTree>(tree) {
                                    self.import(&tree, &Path::new());
                                }
                                at += 2;
                            }
                            Some(TokenTree::Punct(star)) if star.as_char() == '*' => {
                                self.note(line, Raw::Path(path.clone(), true));
                                self.scope().globs.push(path.clone());
                                at += 3;
                            }
                            _ => break,
                        }
                    }
                    if matches!(tokens.get(at), Some(TokenTree::Punct(p)) if p.as_char() == '!')
                        && matches!(tokens.get(at + 1), Some(TokenTree::Group(_)))
                        && let Some(last) = path.last_mut()
                    {
                        last.push('!');
                    }
                    if let (Some(TokenTree::Ident(word)), Some(TokenTree::Ident(name))) =
                        (tokens.get(at), tokens.get(at + 1))
                        && word == "as"
                    {
                        self.scope().names.entry(name.to_string()).or_default().push(path.clone());
                    }
                    self.note(line, Raw::Path(path, false));
                }
            }
        }
    }
}

/// Whether the attributes say that an item is there in tests only: `cfg(test)` or `cfg(all(test, …))`.
fn only_in_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().filter(|a| a.path().is_ident("cfg")).any(|a| {
        let syn::Meta::List(list) = &a.meta else { return false };
        let text = list.tokens.to_string().replace(' ', "");
        text == "test" || text.strip_prefix("all(").is_some_and(|rest| rest.split([',', ')']).any(|w| w == "test"))
    })
}

fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Const(i) => &i.attrs,
        syn::Item::Enum(i) => &i.attrs,
        syn::Item::Fn(i) => &i.attrs,
        syn::Item::Impl(i) => &i.attrs,
        syn::Item::Macro(i) => &i.attrs,
        syn::Item::Mod(i) => &i.attrs,
        syn::Item::Static(i) => &i.attrs,
        syn::Item::Struct(i) => &i.attrs,
        syn::Item::Trait(i) => &i.attrs,
        syn::Item::Type(i) => &i.attrs,
        syn::Item::Use(i) => &i.attrs,
        _ => &[],
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if only_in_tests(attributes(item)) {
            if let syn::Item::Mod(module) = item {
                let path = joined(&self.module, &[module.ident.to_string()]);
                self.house.tests.insert(path);
            }
            return;
        }
        visit::visit_item(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !only_in_tests(&item.attrs) {
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        item.attrs.iter().for_each(|a| self.visit_attribute(a));
        if let Some((_, items)) = &item.content {
            self.module.push(item.ident.to_string());
            self.scope();
            items.iter().for_each(|item| self.visit_item(item));
            self.module.pop();
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let head = item.leading_colon.map(|_| String::new()).into_iter().collect();
        self.import(&item.tree, &head);
    }

    fn visit_item_extern_crate(&mut self, item: &'ast syn::ItemExternCrate) {
        let path =
            if item.ident == "self" { vec!["crate".to_owned()] } else { vec![String::new(), item.ident.to_string()] };
        self.note(item.ident.span().start().line, Raw::Path(path.clone(), false));
        if let Some((_, name)) = &item.rename {
            self.scope().names.entry(name.to_string()).or_default().push(path);
        }
    }

    fn visit_item_type(&mut self, item: &'ast syn::ItemType) {
        if let syn::Type::Path(target) = &*item.ty
            && target.qself.is_none()
        {
            let path: Path = target.path.segments.iter().map(|s| s.ident.to_string()).collect();
            self.scope().names.entry(item.ident.to_string()).or_default().push(path);
        }
        visit::visit_item_type(self, item);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.path(&[], path, false);
        visit::visit_path(self, path);
    }

    fn visit_expr_path(&mut self, path: &'ast syn::ExprPath) {
        // `<Type>::name`: the type's path goes on in the name.
        if let Some(of) = &path.qself
            && let syn::Type::Path(of) = &*of.ty
        {
            let head: Path = of.path.segments.iter().map(|s| s.ident.to_string()).collect();
            let last = path.path.segments.last().map(|s| s.ident.to_string());
            let line = path.path.segments.last().map_or(0, |s| s.ident.span().start().line);
            self.note(line, Raw::Path(head.into_iter().chain(last).collect(), false));
        }
        visit::visit_expr_path(self, path);
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        self.path(&[], &item.path, true);
        self.path(&[], &item.path, false);
        self.tokens(item.tokens.clone());
    }

    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        if attribute.path().is_ident("doc") {
            return;
        }
        self.path(&[], attribute.path(), false);
        if let syn::Meta::List(list) = &attribute.meta {
            self.tokens(list.tokens.clone());
        }
    }

    fn visit_lit(&mut self, literal: &'ast syn::Lit) {
        self.literal(literal);
    }

    fn visit_signature(&mut self, signature: &'ast syn::Signature) {
        if let Some(word) = signature.asyncness {
            self.note(word.span.start().line, Raw::Async);
        }
        visit::visit_signature(self, signature);
    }

    fn visit_expr_async(&mut self, block: &'ast syn::ExprAsync) {
        self.note(block.async_token.span.start().line, Raw::Async);
        visit::visit_expr_async(self, block);
    }

    fn visit_expr_await(&mut self, wait: &'ast syn::ExprAwait) {
        self.note(wait.await_token.span.start().line, Raw::Async);
        visit::visit_expr_await(self, wait);
    }
}
