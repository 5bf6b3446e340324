import { expect, test } from "vitest";
import { toSecretForms } from "../../src/secret-forms.ts";

test.each([
  ["a bare key", "sk-0123456789", ["sk-0123456789"]],
  ["a scheme", "Bearer sk-0123456789", ["Bearer sk-0123456789", "sk-0123456789"]],
  ["any scheme", "Token sk-0123456789", ["Token sk-0123456789", "sk-0123456789"]],
  [
    "Basic",
    `Basic ${btoa("me:pass-word-1")}`,
    [`Basic ${btoa("me:pass-word-1")}`, btoa("me:pass-word-1"), "me:pass-word-1", "pass-word-1"],
  ],
  ["a cookie", "session=s3cret-0123; x=1", ["session=s3cret-0123; x=1", "s3cret-0123"]],
  [
    "a named part",
    'Token token="sk-0123456789"',
    ['Token token="sk-0123456789"', 'token="sk-0123456789"', "sk-0123456789"],
  ],
  [
    "base64 with its padding",
    "Bearer c2VjcmV0LXNlY3JldA==",
    ["Bearer c2VjcmV0LXNlY3JldA==", "c2VjcmV0LXNlY3JldA=="],
  ],
  ["a scheme with a word too short to be a secret", "Bearer abc", ["Bearer abc"]],
  ["a scheme alone", "Bearer", ["Bearer"]],
])("of %s", (_what, value, forms) => {
  expect(toSecretForms(value)).toEqual(forms);
});
