/** Requests that two servers could read in two ways, or that are none: what is sent at the door, and the nearest that is carried. */
import type { EgressDenial } from "#contract/egress";

/** What a shape is written with. `to` and `not` are authorities: of an allowed host and of one that is not. */
export type Words = {
  readonly to: string;
  readonly not: string;
  readonly key: string;
};

type Shape = {
  readonly what: string;
  readonly bytes: (words: Words) => string;
  readonly reason: EgressDenial;
  readonly status: number;
};

const H = "host: door";
const key = ({ key }: Words): string => `x-api-key: ${key}`;
const base = ({ to }: Words): string => `/to/http/${to}/x`;

/** A request under the door with further header lines, and a body. */
const post =
  (lines: readonly string[], body = ""): Shape["bytes"] =>
  (words) =>
    [`POST ${base(words)} HTTP/1.1`, H, key(words), ...lines, "", body].join("\r\n");

/** A request for an address, as a proxy takes it. */
const proxied =
  (toUrl: (words: Words) => string, toHost: (words: Words) => string): Shape["bytes"] =>
  (words) =>
    [`GET ${toUrl(words)} HTTP/1.1`, `host: ${toHost(words)}`, key(words), "", ""].join("\r\n");

const withPath =
  (toPath: (words: Words) => string): Shape["bytes"] =>
  (words) =>
    [`GET ${toPath(words)} HTTP/1.1`, H, key(words), "", ""].join("\r\n");

const bad = (what: string, bytes: Shape["bytes"], status = 400): Shape => ({
  what,
  bytes,
  reason: "bad_request",
  status,
});
const badHost = (what: string, bytes: Shape["bytes"]): Shape => ({
  what,
  bytes,
  reason: "bad_host",
  status: 403,
});
const notAllowed = (what: string, bytes: Shape["bytes"]): Shape => ({
  what,
  bytes,
  reason: "host_not_allowed",
  status: 403,
});

const CHUNKS = "3\r\nabc\r\n0\r\n\r\n";

export const REFUSED_SHAPES: readonly Shape[] = [
  bad("a length and chunks", post(["content-length: 3", "transfer-encoding: chunked"], CHUNKS)),
  bad("chunks and a length", post(["transfer-encoding: chunked", "content-length: 3"], CHUNKS)),
  bad("chunked, identity", post(["transfer-encoding: chunked, identity"], CHUNKS)),
  bad("identity, chunked", post(["transfer-encoding: identity, chunked"], CHUNKS)),
  bad("gzip, chunked", post(["transfer-encoding: gzip, chunked"], CHUNKS)),
  bad("identity", post(["transfer-encoding: identity"], "abc")),
  bad("xchunked", post(["transfer-encoding: xchunked"], CHUNKS)),
  bad("chunked twice in one line", post(["transfer-encoding: chunked, chunked"], CHUNKS)),
  bad(
    "chunked twice in two lines",
    post(["transfer-encoding: chunked", "transfer-encoding: chunked"], CHUNKS),
  ),
  bad(
    "chunked, then something else in a second line",
    post(["transfer-encoding: chunked", "transfer-encoding: x"], CHUNKS),
  ),
  bad("chunked in quotes", post(['transfer-encoding: "chunked"'], CHUNKS)),
  bad("chunked behind a vertical tab", post(["transfer-encoding: \x0bchunked"], CHUNKS)),
  bad("a blank before the colon", post(["transfer-encoding : chunked"], CHUNKS)),
  bad("chunks over HTTP/1.0", (words) =>
    post(["transfer-encoding: chunked"], CHUNKS)(words).replace("HTTP/1.1", "HTTP/1.0"),
  ),
  bad("two lengths that differ", post(["content-length: 3", "content-length: 4"], "abcd")),
  bad("two lengths alike", post(["content-length: 3", "content-length: 3"], "abc")),
  bad("two lengths in one line", post(["content-length: 3, 3"], "abc")),
  bad("a length with a plus", post(["content-length: +3"], "abc")),
  bad("a length with a minus", post(["content-length: -3"], "abc")),
  bad("a length in hexadecimal", post(["content-length: 0x3"], "abc")),
  bad("a length with a blank inside", post(["content-length: 3 0"], "abc")),
  bad("a length that is no number", post(["content-length: three"], "abc")),
  bad("a length that overflows", post(["content-length: 18446744073709551619"], "abc")),
  bad("an empty length", post(["content-length: "], "abc")),
  bad("a header folded over two lines", post(["x-folded: a", " b", "content-length: 0"])),
  bad("the transfer coding folded", post(["transfer-encoding:", " chunked"], CHUNKS)),
  bad("a first header line that begins with a blank", (words) => post([])(words).replace(H, ` ${H}`)),
  bad("lines that end without a return", (words) =>
    post(["content-length: 0"])(words).replaceAll("\r\n", "\n"),
  ),
  bad("a return alone", post(["x-return: a\rcontent-length: 3"], "abc")),
  bad("a nul in a value", post(["x-nul: a\0b", "content-length: 0"])),
  bad("a nul in a name", post(["x-\0nul: a", "content-length: 0"])),
  bad("a blank in a name", post(["x nul: a", "content-length: 0"])),
  bad("a header without a name", post([": a", "content-length: 0"])),
  bad("a line without a colon", post(["rubbish", "content-length: 0"])),
  bad("two Host headers", post(["host: other", "content-length: 0"])),
  bad("no Host header", (words) => post(["content-length: 0"])(words).replace(`${H}\r\n`, "")),
  bad(
    "two authorizations",
    post(["authorization: Bearer a", "authorization: Bearer b", "content-length: 0"]),
  ),
  bad("headers of more than 16 kB", post([`x-large: ${"a".repeat(17_000)}`, "content-length: 0"])),
  bad("a method of another protocol", (words) =>
    post(["content-length: 0"])(words).replace("POST", "PROPFIND"),
  ),
  bad("TRACE", (words) => post([])(words).replace("POST", "TRACE")),
  bad("a method that is none", (words) => post([])(words).replace("POST", "ABSURD")),
  bad("a method in lower case", (words) => post([])(words).replace("POST", "post")),
  bad("HTTP/0.9", (words) => `GET ${base(words)}\r\n\r\n`),
  bad("HTTP/1.2", (words) => post(["content-length: 0"])(words).replace("HTTP/1.1", "HTTP/1.2")),
  bad("HTTP/2's first bytes", () => "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
  bad("TLS to a door that speaks none", () => "\x16\x03\x01\x00\x05hello\r\n\r\n"),
  bad("rubbish", () => "\x00\x01\x02 rubbish\r\n\r\n"),
  bad(
    "h2c",
    post([
      "connection: upgrade, http2-settings",
      "upgrade: h2c",
      "http2-settings: AAMAAABkAAQAAP__",
      "content-length: 0",
    ]),
  ),
  bad(
    "a websocket",
    post(["connection: upgrade", "upgrade: websocket", "sec-websocket-version: 13", "content-length: 0"]),
  ),
  bad("an upgrade that no connection names", post(["upgrade: h2c", "content-length: 0"])),
  bad("something expected that is not known", post(["expect: 200-ok", "content-length: 0"])),
  bad(
    "another Host than the address",
    proxied(
      ({ to }) => `http://${to}/x`,
      ({ not }) => not,
    ),
  ),
  bad(
    "the address of another than the Host",
    proxied(
      ({ not }) => `http://${not}/x`,
      ({ to }) => to,
    ),
  ),
  bad(
    "a Host with a user",
    proxied(
      ({ to }) => `http://${to}/x`,
      ({ to }) => `a@${to}`,
    ),
  ),
  badHost(
    "an allowed host as the user of another",
    proxied(
      ({ to, not }) => `http://${to}@${not}/x`,
      ({ not }) => not,
    ),
  ),
  badHost(
    "an allowed host as user and password",
    proxied(
      ({ to, not }) => `http://u:${to}@${not}/x`,
      ({ not }) => not,
    ),
  ),
  bad(
    "a backslash between two",
    proxied(
      ({ to, not }) => `http://${to}\\@${not}/x`,
      ({ not }) => not,
    ),
  ),
  bad(
    "a fragment between two",
    proxied(
      ({ to, not }) => `http://${to}#@${not}/x`,
      ({ not }) => not,
    ),
  ),
  bad(
    "a fragment in a path",
    proxied(
      ({ to }) => `http://${to}/x#y`,
      ({ to }) => to,
    ),
  ),
  bad(
    "no scheme",
    withPath(({ not }) => `//${not}/x`),
    404,
  ),
  bad(
    "a scheme in capitals",
    proxied(
      ({ to }) => `HTTP://${to}/x`,
      ({ to }) => to,
    ),
  ),
  bad(
    "another scheme",
    proxied(
      ({ to }) => `ftp://${to}/x`,
      ({ to }) => to,
    ),
  ),
  bad(
    "a file",
    withPath(() => "file:///etc/passwd"),
  ),
  badHost(
    "three slashes",
    proxied(
      ({ to }) => `http:///${to}/x`,
      ({ to }) => to,
    ),
  ),
  bad(
    "a path of the door's own",
    withPath(() => "/x"),
    404,
  ),
  bad(
    "nothing under the door",
    withPath(() => "/to/"),
    404,
  ),
  bad(
    "a way up under the door",
    withPath(({ not }) => `/to/../http/${not}/x`),
    404,
  ),
  bad(
    "another scheme under the door",
    withPath(({ not }) => `/to/gopher/${not}/x`),
    404,
  ),
  bad(
    "two slashes under the door",
    withPath(({ not }) => `//to/http/${not}/x`),
    404,
  ),
  bad(
    "a control byte in a path",
    withPath((words) => `${base(words)}\x01`),
  ),
  bad(
    "a delete byte in a path",
    withPath((words) => `${base(words)}\x7f`),
  ),
  bad(
    "a tab in a path",
    withPath((words) => `${base(words)}\ty`),
  ),
  bad(
    "all of a server",
    withPath(() => "*"),
    400,
  ),
  badHost(
    "an allowed host as a user under the door",
    withPath(({ to, not }) => `/to/http/${to}@${not}/x`),
  ),
  badHost(
    "an escaped dot under the door",
    withPath(({ to }) => `/to/http/${to.replace(".", "%2e")}/x`),
  ),
  badHost(
    "an escaped slash under the door",
    withPath(({ to, not }) => `/to/http/${not}%2f${to}/x`),
  ),
  badHost(
    "no host under the door",
    withPath(() => "/to/http//x"),
  ),
  notAllowed(
    "a host that is not allowed",
    withPath(({ not }) => `/to/http/${not}/x`),
  ),
  notAllowed(
    "the same by its address",
    proxied(
      ({ not }) => `http://${not}/x`,
      ({ not }) => not,
    ),
  ),
  notAllowed(
    "an allowed host by another scheme",
    withPath(({ to }) => `/to/https/${to}/x`),
  ),
  notAllowed(
    "an allowed host at another port",
    withPath(({ to }) => `/to/http/${to.replace(/:\d+/, ":81")}/x`),
  ),
  notAllowed(
    "an allowed host below another",
    withPath(({ to, not }) => `/to/http/${to.replace(/:\d+/, "")}.${not}/x`),
  ),
];
