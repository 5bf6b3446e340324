/** Where a run's model is: what a profile resolves to and a lease forwards to. Two neighbours share it. */

export type ModelEndpoint =
  | { readonly kind: "demo" }
  | {
      readonly kind: "http";
      readonly baseUrl: URL;
      /** The header that opens it; its value is the secret, and only the broker reads it. */
      readonly header: {
        readonly name: string;
        readonly value: string;
        /** What events call it. */
        readonly credential: string;
      } | null;
      /** True when an operator named this very origin, so that a private address is meant. */
      readonly privateAllowed: boolean;
    };
