/** How many tokens the input of a model call has, as far as that can be told without the model's own tokeniser. Pure. */

/**
 * Anthropic takes at most about 1,600 tokens for an image of ordinary size, OpenAI 765 to about 1,500 (high detail):
 * https://docs.anthropic.com/en/docs/build-with-claude/vision, https://platform.openai.com/docs/guides/images-vision
 */
const TOKENS_PER_IMAGE = 1600;
/** Bytes, not characters: languages beyond ASCII have more tokens for as many characters. */
const BYTES_PER_TOKEN = 4;

/** By the size of the call as JSON; an image counts the same whatever its size. */
export function estimateInput(call: Readonly<Record<string, unknown>>): number {
  const images = [...findImages(call.messages), ...findImages(call.input)];
  const imageBytes = images.reduce((total, data) => total + data.length, 0);
  const bytes = Buffer.byteLength(JSON.stringify(call)) - imageBytes;
  return Math.ceil(bytes / BYTES_PER_TOKEN) + images.length * TOKENS_PER_IMAGE;
}

/** True when the call may have its input kept for an hour, at a higher price; a text that only says so is taken for it. */
export function asksLongCache(call: Readonly<Record<string, unknown>>): boolean {
  return JSON.stringify(call).includes('"ttl":"1h"');
}

/** Data of images where providers look for them. Anywhere else, in what a tool was called with too, it is text to them. */
function findImages(parts: unknown): string[] {
  if (!Array.isArray(parts)) return [];
  return parts.filter(isFields).flatMap((part) => {
    const inside = [...findImages(part.content), ...findImages(part.output)];
    const data = toImageData(part);
    return data === null ? inside : [data, ...inside];
  });
}

function toImageData({ type, image_url: image, source }: Record<string, unknown>): string | null {
  if (type === "image_url" || type === "input_image") {
    const url = isFields(image) ? image.url : image;
    return typeof url === "string" && /^data:image\//i.test(url) ? url : null;
  }
  if (type !== "image" || !isFields(source) || source.type !== "base64") return null;
  return typeof source.data === "string" ? source.data : null;
}

function isFields(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
