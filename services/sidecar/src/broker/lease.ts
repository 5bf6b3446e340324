/** What the broker grants one run: a placeholder inside, real credentials outside, and what may be reached. Gone when it ends. */
import { randomBytes, timingSafeEqual } from "node:crypto";
import { setMaxListeners } from "node:events";
import type { IncomingHttpHeaders } from "node:http";
import type { Credential } from "#contract/agent";
import type { ModelApi } from "#contract/extension";
import { Fault } from "../kernel/fault.ts";
import type { ModelEndpoint } from "../model-endpoint.ts";
import type { ListedPrice } from "../model-price.ts";
import { toSecretForms, toTextForms } from "../secret-forms.ts";
import type { Destination } from "./destination.ts";
import type { Dialer } from "./dialer.ts";
import { EgressAudit, type EgressEvent } from "./egress-audit.ts";
import type { EgressRule } from "./egress-policy.ts";
import { Budget, type Shortfall, type UsedUsage } from "./model/budget.ts";
import { OutwardAgents } from "./outward-agents.ts";
import { SecretFinder } from "./secret-scrubber.ts";
import { type HeldCredential, toHeldCredential } from "./vault.ts";

export type LeaseRequest = {
  readonly runId: string;
  readonly model: string;
  readonly api: ModelApi;
  readonly upstream: ModelEndpoint;
  readonly price: ListedPrice | null;
  /** Most output tokens of one call where the call does not say. */
  readonly maxTokens: number;
  /** What the run may reach besides its model. */
  readonly egress: readonly EgressRule[];
  /** The same as the caller wrote it, to be told to who is refused. */
  readonly patterns: readonly string[];
  readonly credentials: readonly Credential[];
  readonly limits: LeaseLimits;
  /** Called before each model call; a false answer refuses it. */
  readonly onModelCall: () => boolean;
  /** Called once, when a limit is reached: the run is to end. */
  readonly onExceeded: (fault: Fault) => void;
  readonly tell: (event: EgressEvent) => Promise<void>;
};

export type LeaseLimits = {
  /** Requests through the door, refused ones included. */
  readonly requests: number;
  /** Bytes in both directions, without those of TLS and HTTP heads. */
  readonly bytes: number;
  readonly tokens?: number | undefined;
  readonly costUsd?: number | undefined;
};

/** How long a run's connections may be silent. */
export type LeaseTimes = {
  /** Without a byte in either direction; a model may think for long, and the run has limits of its own. */
  readonly requestIdleMs: number;
  readonly tunnelIdleMs: number;
  /** For the first message of a tunnel's client. */
  readonly helloMs: number;
};

const TIMES: LeaseTimes = { requestIdleMs: 600_000, tunnelIdleMs: 300_000, helloMs: 10_000 };

/** What a lease needs of the service that grants it. */
export type LeaseParts = {
  readonly times?: LeaseTimes;
  readonly dialer: Dialer;
  /** Whether the operator means plain HTTP for this host and port. */
  isPlain(host: string, port: number): boolean;
};

export class Lease {
  /** Stands in for every key inside the sandbox; letters, digits and an underscore only. */
  readonly placeholder = `pillion_${randomBytes(24).toString("hex")}`;
  /** Forms in which a client may write it by mistake. */
  readonly placeholderTexts: readonly string[] = toTextForms(this.placeholder).map(({ text }) => text);
  readonly request: LeaseRequest;
  readonly audit: EgressAudit;
  readonly budget: Budget;
  readonly credentials: readonly HeldCredential[];
  readonly agents: OutwardAgents;
  readonly dialer: Dialer;
  readonly times: LeaseTimes;
  /** Aborts when the lease ends. */
  readonly ended: AbortSignal;
  /** The forms in which a secret of this lease could come back. */
  readonly secrets: SecretFinder;
  /** The same in lower case, as the names of headers are. */
  readonly lowerSecrets: SecretFinder;
  /** Model calls that are being carried now. */
  calls = 0;
  /** Bytes of their bodies. */
  callBytes = 0;
  /** Requests that are being carried now, model calls not among them. */
  carried = 0;
  /** Model calls of which the provider reported far less than was seen. */
  doubtedCalls = 0;
  readonly #end = new AbortController();
  #requests = 0;
  #bytes = 0;
  #isExceeded = false;

  constructor(request: LeaseRequest, parts: LeaseParts) {
    this.request = request;
    this.ended = this.#end.signal;
    setMaxListeners(0, this.ended); // every connection and request waits for it
    this.dialer = parts.dialer;
    this.times = parts.times ?? TIMES;
    this.audit = new EgressAudit(request.tell);
    const { tokens, costUsd } = request.limits;
    const limits = {
      ...(tokens === undefined ? {} : { tokens }),
      ...(costUsd === undefined ? {} : { costUsd }),
    };
    this.budget = new Budget(limits, request.price, request.maxTokens);
    this.credentials = request.credentials.map((credential) =>
      toHeldCredential(credential, (host, port) => parts.isPlain(host, port)),
    );
    this.agents = new OutwardAgents(parts.dialer, this.ended);
    const header = request.upstream.kind === "http" ? request.upstream.header : null;
    const values = [
      ...this.credentials.map(({ value }) => value),
      ...(header === null ? [] : [header.value]),
    ];
    const texts = values.flatMap(toSecretForms).flatMap((form) => toTextForms(form).map(({ text }) => text));
    this.secrets = new SecretFinder(texts);
    this.lowerSecrets = new SecretFinder(texts.map((text) => text.toLowerCase()));
  }

  /** Whether a client inside showed this lease's placeholder: as a key, a password or a token. */
  isShownBy(headers: IncomingHttpHeaders): boolean {
    const names = ["proxy-authorization", "authorization", "x-api-key", "api-key", "x-goog-api-key"];
    const bound = this.credentials.map(({ header }) => header);
    return [...names, ...bound].some((name) => {
      const value = headers[name];
      return (
        typeof value === "string" && toShownTokens(value).some((shown) => isSame(shown, this.placeholder))
      );
    });
  }

  /** Where the run's model is; no other way leads there. Undefined for the demo model. */
  isModelHost({ host, port }: Destination): boolean {
    const { upstream } = this.request;
    if (upstream.kind !== "http") return false;
    const { hostname, protocol, port: given } = upstream.baseUrl;
    const modelPort = given === "" ? (protocol === "https:" ? 443 : 80) : Number(given);
    return hostname.replace(/^\[|\]$/g, "") === host && modelPort === port;
  }

  /** Counts a request that came to the door; false once there were too many. */
  countRequest(): boolean {
    this.#requests += 1;
    const { requests } = this.request.limits;
    if (this.#requests <= requests) return true;
    this.exceed(`The run used up its limit "requests": ${requests} requests through its door.`);
    return false;
  }

  /** Counts bytes that passed in either direction; false once there were too many. */
  countBytes(count: number): boolean {
    this.#bytes += count;
    const { bytes } = this.request.limits;
    if (this.#bytes <= bytes) return true;
    this.exceed(`The run moved more than ${bytes} bytes through its door, the operator's ceiling.`);
    return false;
  }

  /** A limit of tokens or cost was reached, or would be. */
  exceedBudget(): void {
    const { tokens, costUsd } = this.request.limits;
    const { shortfall, used } = this.budget;
    if (shortfall !== null) return this.exceed(toShortText(shortfall, this.request.limits, used));
    const what =
      this.budget.limitName === "costUsd" ? `"costUsd": ${costUsd} US dollars` : `"tokens": ${tokens} tokens`;
    this.exceed(`The run used up its limit ${what}.`);
  }

  /** A call is settled; doubted where its provider reported far less than was seen. */
  noteCall(isDoubted: boolean): void {
    if (isDoubted) this.doubtedCalls += 1;
    if (this.budget.isExceeded) this.exceedBudget();
  }

  exceed(detail: string): void {
    if (this.#isExceeded) return;
    this.#isExceeded = true;
    this.request.onExceeded(new Fault("budget_exceeded", detail));
  }

  /** Nothing goes out from now on, and what is going on is cut. */
  end(): void {
    this.#end.abort();
    this.agents.close();
  }

  /** Ends it, and resolves when all that was going on is written down. */
  async settle(): Promise<void> {
    this.end();
    await this.audit.settle();
  }
}

function toShortText({ limit, needs }: Shortfall, limits: LeaseLimits, used: UsedUsage): string {
  const { inputTokens, outputTokens, cacheReadTokens, cacheWriteTokens } = used;
  const [need, spent] =
    limit === "tokens"
      ? [`needs about ${needs} tokens`, inputTokens + outputTokens + cacheReadTokens + cacheWriteTokens]
      : [`may cost about ${toShort(needs)} US dollars`, toShort(used.costUsd ?? 0)];
  return `The next model call ${need}, more than is left of the run's limit "${limit}": ${limits[limit]}, of which ${spent} are used.`;
}

/** Three digits, as a person reads an amount. */
function toShort(amount: number): number {
  return Number(amount.toPrecision(3));
}

/** The value itself, a bearer's token, and the user and password of Basic. */
function toShownTokens(value: string): string[] {
  const [, scheme = "", bare = ""] = /^(\S+)\s+(\S+)$/.exec(value.trim()) ?? [];
  if (scheme.toLowerCase() !== "basic") return [value.trim(), bare];
  return Buffer.from(bare, "base64").toString("utf8").split(":");
}

function isSame(a: string, b: string): boolean {
  const [left, right] = [Buffer.from(a), Buffer.from(b)];
  return left.length === right.length && timingSafeEqual(left, right);
}
