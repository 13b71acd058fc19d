// The verdicts, in their order, in words.

export const VERDICTS = {
  missing: "the shadow never answered",
  status: "another status",
  headers: "other headers",
  body: "another body",
  slower: "the same, slower than allowed",
  match: "the same",
  unpaired: "could not be compared",
};

export const KINDS = {
  missing: "missing in the shadow",
  extra: "only in the shadow",
  type: "another type",
  primitive: "another value",
  order: "another order",
  length: "another length",
};
