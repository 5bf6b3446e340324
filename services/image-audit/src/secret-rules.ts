/** Our own few patterns for credentials, beside those of the maintained rule set, which each miss some of these. */

export type SecretRule = {
  readonly id: string;
  /** With the flags `dg`; group 1, where there is one, is the value that must look like a real one. */
  readonly pattern: RegExp;
  /** Paths it is for; all, where it is absent. */
  readonly path?: RegExp;
};

const VALUE = String.raw`([\w+/=.~:@%!#$^&*-]{12,})`;

export const SECRET_RULES: readonly SecretRule[] = [
  { id: "anthropic-key", pattern: /\bsk-ant-[\w-]{20,}/g },
  { id: "openai-key", pattern: /\bsk-(?:proj|svcacct|or-v1)-([\w-]{20,})/g },
  { id: "github-token", pattern: /\b(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{30,})/g },
  { id: "aws-access-key", pattern: /\b(?:AKIA|ASIA)(?!IOSFODNN7EXAMPLE)[A-Z2-7]{16}\b/g },
  {
    id: "key-assignment",
    pattern: new RegExp(
      String.raw`\b[A-Z][A-Z0-9_]*(?:API_?KEY|ACCESS_KEY|SECRET(?:_KEY)?|TOKEN|PASSWORD)["']?[ \t]*[=:][ \t]*["']?${VALUE}`,
      "g",
    ),
  },
  { id: "npmrc-token", pattern: /_(?:authToken|auth|password)[ \t]*=[ \t]*["']?([^\s"'$]{8,})/g },
  { id: "url-password", pattern: /\b[a-z][a-z0-9+.-]*:\/\/[^\s/:@"'<>{}$]+:([^\s/:@"'<>{}$]{4,})@[\w.-]+/g },
  {
    id: "url-token",
    pattern: /^[ \t]*url[ \t]*=[ \t]*https?:\/\/([^\s/:@]{16,})@/gm,
    path: /(^|\/)(\.git\/config|\.gitconfig|gitconfig|\.gitmodules)$/,
  },
  {
    id: "private-key",
    // The body follows the mark; programs that only know the mark are not meant. A key in a string has `\n` for its ends.
    pattern:
      /-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----(?:\\r|\\n|\s)+(?:[\w-]+: [^\n]*\n)*(?:\\r|\\n|\s)*[A-Za-z0-9+/=]{16,}/g,
  },
  { id: "putty-key", pattern: /^PuTTY-User-Key-File-\d: /gm },
  {
    id: "netrc",
    pattern: /\b(?:machine|default)\b[^#]*?\bpassword\s+(\S+)/g,
    path: /(^|\/)[._]netrc$/,
  },
  {
    id: "docker-login",
    pattern: /"(?:auth|identitytoken|registrytoken)"\s*:\s*"([^"]{8,})"/g,
    path: /(^|\/)(\.docker\/config\.json|\.dockercfg|containers\/auth\.json)$/,
  },
  { id: "git-credentials", pattern: /^https?:\/\/[^\s:@/]+:[^\s@/]+@/gm, path: /(^|\/)\.git-credentials$/ },
];

/** What stands where a value will: `your-api-key-here`, `xxxx`, a program's expression. */
const PLACEHOLDER_WORD =
  /your|my[-_]|example|placeholder|changeme|redacted|dummy|sample|insert|replace|fake|secret[_-]?here|process\.env|os\.environ|getenv|undefined|null|string|x{4,}|\.{3}|\*{3}|[()]/i;

/** `<key>`, `${NAME}`, a constant's name, and words or paths like `/latest/api/ec2-token`. */
const PLACEHOLDER_SHAPE = /^[<${%[(]|^[A-Z][A-Z_]*\d?$|^\/?[a-z]+\d?(?:[._/-]+[a-z]+\d?)*$/;

/** A real secret is irregular: mixed, and without a sign of standing for something else. */
export function isLikelyReal(value: string): boolean {
  if (PLACEHOLDER_WORD.test(value) || PLACEHOLDER_SHAPE.test(value)) return false;
  return /\d/.test(value) && new Set(value).size >= 8;
}

/** Names of variables, labels and build arguments whose value is a credential by what the name says. */
const SECRET_NAME =
  /(?:^|[_.-])(?:api_?key|access_?key|secret|secret_?key|private_?key|token|auth_?token|password|passwd|passphrase|credentials?)$/i;

/** Settings that say where a secret lies, or switch something, hold none. */
export function isSecretAssignment(name: string, value: string): boolean {
  if (!SECRET_NAME.test(name.replace(/([a-z])([A-Z])/g, "$1_$2"))) return false;
  return value.length >= 4 && !/^(true|false|none|null|\/|\$|<)/i.test(value);
}
