// How a wrong setting is told: what in it is wrong, and what was meant, with no part of a secret.
import { expect, test } from "vitest";
import { readSettings, SettingsError } from "../../src/settings.ts";

function complaintsOf(env: Record<string, string>, readFile: () => string = () => "{}"): string[] {
  try {
    const dirs = { PILLION_HOME: "/x", PILLION_CONFIG_DIR: "/x", PILLION_SKILLS_DIR: "/x" };
    readSettings({ env: { ...dirs, ...env }, readFile });
  } catch (error) {
    if (!(error instanceof SettingsError)) throw error;
    return error.complaints.map(({ setting, message }) => `${setting} ${message}`);
  }
  return [];
}

test("the entries of a list that are wrong are named, each rule once, and none that may hold a password", () => {
  const PILLION_EGRESS = "api.github.com,API.x,127.1,ok.example,b_c.example";
  const PILLION_PRIVATE_TARGETS = "http://ok:1,http://user:hunter22@a,http://b/path";
  expect(complaintsOf({ PILLION_EGRESS, PILLION_PRIVATE_TARGETS })).toEqual([
    `PILLION_EGRESS must be a lower-case host like \`api.example.com\`, all below one like \`*.example.com\`, with \`:port\` if not 443, or \`http://\` before it for plain HTTP; not so: "API.x", "b_c.example"`,
    `PILLION_EGRESS must have a port up to 65535, and an address in its usual form if it is one; not so: "127.1"`,
    'PILLION_PRIVATE_TARGETS must be origins like http://127.0.0.1:9000, without a path; not so: "http://b/path"',
  ]);
  const readFile = () => '{"allowedHosts": ["ok.example", "http://a"]}';
  expect(complaintsOf({ PILLION_CONFIG: "/c" }, readFile)).toEqual([
    'allowedHosts in the config file must be host names like pillion.example, without scheme or path; not so: "http://a"',
  ]);
});

test.each([
  ["PILLION_COST", "PILLION_COST_USD"],
  ["PILLION_CREDENTIAL", "PILLION_CREDENTIALS"],
  ["PILLION_PROT", "PILLION_PORT"],
])(
  "the unknown %s is told to be %s: one that it begins goes before one that is only alike",
  (name, meant) => {
    expect(complaintsOf({ [name]: "1" })).toEqual([`${name} is not a setting; did you mean ${meant}?`]);
  },
);

test.each([
  ["a rule", { header: "a b" }, "0.header must be a header name"],
  [
    "a field's spelling",
    { pathprefix: "/a" },
    '0 has an unknown field: "pathprefix" (did you mean pathPrefix?)',
  ],
  [
    "a field that is far from all",
    { scheme: "http" },
    "0 has an unknown field; known are name, host, header, pathPrefix, methods, env, value",
  ],
  [
    "a field that is missing",
    { value: undefined },
    "0.value is not valid: expected string, received undefined",
  ],
])("what is wrong with a credential is told where it is: %s", (_what, change, told) => {
  const credential = {
    host: "api.example",
    header: "authorization",
    value: `Bearer sk-canary-4711`,
    ...change,
  };
  expect(complaintsOf({ PILLION_CREDENTIALS: JSON.stringify([credential]) })).toEqual([
    `PILLION_CREDENTIALS must be an array of {host, header, value}: ${told}`,
  ]);
});
