/** What the caller's door must know from the settings, and where it writes its log. */

export type HttpSettings = {
  /** The bearer token; without one only loopback or `allowAnonymous` opens the door. */
  readonly token?: string;
  readonly allowAnonymous: boolean;
  readonly boundToLoopback: boolean;
  /** Host names served besides loopback, without port. */
  readonly allowedHosts: readonly string[];
  /** As configured; 0 takes a free port. Only the OpenAPI page shows it. */
  readonly port: number;
  readonly maxBodyBytes: number;
  readonly version: string;
};

/** The part of a pino logger that the door needs. */
export interface HttpLog {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}
