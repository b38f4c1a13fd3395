// Errors in the page's words. The server's errors speak to programs; some name calls of Python.

const KNOWN = {
  Forbidden: "Your token may not do this. Ask the owner of this Flow for a token with a higher role: ",
  RunNotFound: "There is no such run. It may have been deleted or renamed.",
  DatasetNotFound: "There is no such dataset. It may have been deleted.",
  ArtifactNotFound: "There is no such artifact. It may have been deleted.",
  ExperimentNotFound: "There is no such experiment. It may have been deleted.",
};

/** Return the sentence that the page shows for an error of the server. */
export function inWords(type, detail) {
  if (type === "Forbidden") return KNOWN.Forbidden + (/role must be (\w+)/.exec(detail)?.[1] ?? "admin") + " is needed, yours is " + (/Got (\w+), of/.exec(detail)?.[1] ?? "lower") + ".";
  return KNOWN[type] ?? withoutCalls(detail);
}

/** Return a message without the sentences that tell what to call in Python. */
export function withoutCalls(message) {
  const sentences = message.split(/(?<=[.!?]) (?=[A-Z`])/);
  const kept = sentences.filter((each) => !/\bfinetuner\.[a-z_]+|^(See|Call|Pass) `?[a-z_.]+\(/.test(each));
  return kept.length ? kept.join(" ") : message;
}
