use super::*;

const HEAD: &str = "POST /api/users?user=al%20ice&user=bob&empty= HTTP/1.1\r\n\
                    Host: Shop.example:8080\r\nX-Debug: 1\r\nAccept: text/html\r\nAccept: */*\r\n\
                    Content-Length: 3\r\n\r\n";

fn passes(filter: Filter, head: &str) -> bool {
    match rules(|rules| rules.filter(filter)).judge(head.as_bytes(), &context()) {
        Verdict::Skip => false,
        Verdict::Send { head: it } if *it == *head.as_bytes() => true,
        other => panic!("{other:?}"),
    }
}

#[test]
fn expressions_say_which_requests_pass() {
    for (filter, expected) in [
        ("method = POST", true),
        ("method = post", true),
        ("method = \"GET\"", false),
        ("method != GET", true),
        ("method in (GET, HEAD)", false),
        ("method in (GET,'POST')", true),
        ("path = /api/users", true),
        ("path ~ \"^/api/\"", true),
        ("path ~ '\\d'", false),
        ("path !~ '\\d'", true),
        ("host = shop.example", true),
        ("host ~ '(?i)^shop[.]'", true),
        ("header[\"x-debug\"]", true),
        ("header['X-DEBUG'] = 1", true),
        ("header['x-none']", false),
        ("header['x-none'] = 1", false),
        ("header['x-none'] != 1", true),
        ("not header['x-debug'] = '1'", false),
        ("header['accept'] = '*/*'", true),
        ("query['user'] = 'al ice'", true),
        ("query['user'] ~ '^b'", true),
        ("query['USER'] ~ '^b'", false),
        ("query['empty']", true),
        ("query['empty'] = ''", true),
        ("query['none']", false),
        ("method = GET or method = POST and path = /no", false),
        ("(method = GET or method = POST) and path ~ users", false),
        ("(method = GET or method = POST) and path ~ 'users'", true),
        ("method = GET and path = /no or header['x-debug']", true),
        ("not not method = POST", true),
        ("not (method = GET or path = /no)", true),
        ("  method=POST and(path='/api/users')  ", true),
    ] {
        match Filter::parse(filter) {
            Ok(parsed) => assert_eq!(passes(parsed, HEAD), expected, "{filter}"),
            Err(error) => assert!(filter.contains("~ users"), "{error}"),
        }
    }
}

#[test]
fn other_forms_of_a_target_have_a_path_and_a_host_too() {
    let proxied = "GET http://other.example:81/x?y=1 HTTP/1.1\r\nHost: ignored\r\n\r\n";
    for filter in ["host = other.example", "path = /x", "query['y'] = 1"] {
        assert!(passes(Filter::parse(filter).unwrap(), proxied), "{filter}");
    }
    let v6 = "GET / HTTP/1.1\r\nHost: [fd00::9]:80\r\n\r\n";
    assert!(passes(Filter::parse("host = '[fd00::9]'").unwrap(), v6));
    let asterisk = "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n";
    assert!(passes(Filter::parse("path = *").unwrap(), asterisk));
}

#[test]
fn errors_point_at_the_place() {
    for (filter, error) in [
        (
            "",
            "method, path, host, header[\"NAME\"], query[\"NAME\"], not or ( is expected at character 1",
        ),
        ("method", "=, !=, ~, !~ or in is expected at character 7"),
        ("method =", "a value, in quotes unless it is a word is expected at character 9"),
        ("method = GET path = /", "and, or, or the end is expected at character 14"),
        (
            "method = GET and",
            "method, path, host, header[\"NAME\"], query[\"NAME\"], not or ( is expected at character 17",
        ),
        (
            "method = GET and verb = 1",
            "method, path, host, header[\"NAME\"], query[\"NAME\"], not or ( is expected at character 18",
        ),
        ("(method = GET", ") or and, or is expected at character 14"),
        ("method = 'GET", "a value, in quotes unless it is a word is expected at character 10"),
        ("method in GET", "( and a list is expected at character 11"),
        ("method in (GET HEAD)", ", or ) is expected at character 16"),
        ("header = 1", "[\"NAME\"] with a field's name is expected at character 8"),
        ("header['a b']", "[\"NAME\"] with a field's name is expected at character 7"),
        ("path ~ /api", "a regex in quotes is expected at character 8"),
        ("path ~ 'a(b'", "unclosed group at character 2 of the regex at character 8"),
        (
            "not ü",
            "method, path, host, header[\"NAME\"], query[\"NAME\"], not or ( is expected at character 5",
        ),
        ("host = ü", "a value, in quotes unless it is a word is expected at character 8"),
    ] {
        assert_eq!(Filter::parse(filter).unwrap_err().what, error, "for {filter}");
    }
    let deep = format!("{}method = GET{}", "(".repeat(99), ")".repeat(99));
    assert_eq!(
        Filter::parse(&deep).unwrap_err().what,
        "less than 32 levels is expected at character 33"
    );
    let nots = "not ".repeat(1_000) + "method = GET";
    assert!(Filter::parse(&nots).unwrap_err().what.contains("less than 32 levels"));
    assert!(Filter::parse(&"x".repeat(5_000)).unwrap_err().what.contains("longer than"));
}

#[test]
fn flags_are_shorthands() {
    let header = |text| Filter::header("--header", text).unwrap();
    for (filter, expected) in [
        (Filter::method("get, post").unwrap(), true),
        (Filter::method("GET").unwrap(), false),
        (Filter::safe_methods(), false),
        (Filter::path("--path", "^/api/").unwrap(), true),
        (Filter::path("--path", "^/api/").unwrap().negated(), false),
        (header("Accept=^text/"), true),
        (header("Accept=json"), false),
        (header("x-none=").negated(), true),
        (Filter::any([header("x-none="), header("x-debug=1")]), true),
    ] {
        assert_eq!(passes(filter.clone(), HEAD), expected, "{filter:?}");
    }
    for error in [
        Filter::method("GET,,").unwrap_err(),
        Filter::path("--path", "a(").unwrap_err(),
        Filter::path("--path", &"(a{1000}){1000}".repeat(2)).unwrap_err(),
        Filter::header("--header", "Accept").unwrap_err(),
        Filter::header("--header", "a b=c").unwrap_err(),
    ] {
        assert_eq!(error.to_string().lines().count(), 1, "{error}");
    }
}
