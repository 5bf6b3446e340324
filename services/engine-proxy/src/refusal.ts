/** Why a call is not passed on; its message reaches the caller and the log, and names no value that was sent. */
export class Refusal extends Error {
  override readonly name = "Refusal";
  readonly status: number;

  constructor(message: string, status = 403) {
    super(message);
    this.status = status;
  }
}
