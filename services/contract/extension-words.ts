/** Words that the Pi driver and the extension say to each other. Apart from the schemas, so that the extension stays small. */

/** First word of a claim on Pi's input, so that the extension never takes a prompt for a claim. */
export const CLAIM_PREFIX = "pillion-claim:";

/** Prefix of the command whose presence, with the nonce behind it, proves that our extension holds the claim. */
export const PROOF_COMMAND_PREFIX = "pillion-";

/** Key under which the extension reports a finished model call over Pi's `setStatus`. */
export const USAGE_STATUS_KEY = "pillion-usage";

/** Command that the extension has from its first moment on; without it nothing is said to Pi at all. */
export const CLOSED_COMMAND = "pillion-closed";
