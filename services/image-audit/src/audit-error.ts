/** Why an audit could not be made at all: the image or the engine is missing, or the input is no image. */
export class AuditError extends Error {
  override readonly name = "AuditError";
}
