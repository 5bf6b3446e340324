/** The JSON documents of a saved image, as far as the audit reads them. Others' fields are left alone. */
import { z } from "zod";

const Digest = z.string().regex(/^[a-z0-9]+:[0-9a-f]{32,}$/);

const Platform = z.object({ os: z.string(), architecture: z.string(), variant: z.string().optional() });

export const Descriptor = z.object({
  mediaType: z.string().optional(),
  digest: Digest,
  platform: Platform.optional(),
  annotations: z.record(z.string(), z.string()).nullish(),
});
export type Descriptor = z.infer<typeof Descriptor>;

/** `index.json` of an OCI layout, or an index that one names. */
export const ImageIndex = z.object({ manifests: z.array(Descriptor) });

export const ImageManifest = z.object({ config: Descriptor, layers: z.array(Descriptor) });

/** `manifest.json` of `docker save`. */
export const DockerArchive = z.array(
  z.object({
    Config: z.string(),
    RepoTags: z.array(z.string()).nullish(),
    Layers: z.array(z.string()),
  }),
);

const Texts = z.array(z.string()).nullish();

export const ImageConfig = z.object({
  created: z.string().nullish(),
  author: z.string().nullish(),
  architecture: z.string().optional(),
  os: z.string().optional(),
  variant: z.string().optional(),
  config: z
    .object({
      Env: Texts,
      Cmd: Texts,
      Entrypoint: Texts,
      OnBuild: Texts,
      Shell: Texts,
      Labels: z.record(z.string(), z.string()).nullish(),
      Healthcheck: z.object({ Test: Texts }).nullish(),
    })
    .nullish(),
  history: z
    .array(
      z.object({
        created: z.string().nullish(),
        created_by: z.string().nullish(),
        comment: z.string().nullish(),
      }),
    )
    .nullish(),
  rootfs: z.object({ diff_ids: z.array(z.string()) }),
});
export type ImageConfig = z.infer<typeof ImageConfig>;
