// Errors in the page's words. The server's errors speak to programs; some name calls of Python.

const KNOWN = {
  RunNotFound: "There is no such run. It may have been deleted or renamed.",
  DatasetNotFound: "There is no such dataset. It may have been deleted.",
  ArtifactNotFound: "There is no such artifact. It may have been deleted.",
  ExperimentNotFound: "There is no such experiment. It may have been deleted.",
};
const ROLE = /^role must be (\w+) .* Got (\w+), of the token/;

/** Return the sentence that the page shows for an error of the server. */
export function inWords(type, detail) {
  const [, needed, own] = ROLE.exec(detail) ?? [];
  if (needed)
    return `Your token may not do this: the role ${needed} is needed, yours is ${own}. Ask the owner of this Flow for another token.`;
  return KNOWN[type] ?? withoutCalls(detail);
}

/** Return a message without the sentences that tell what to call in Python. */
export function withoutCalls(message) {
  const sentences = message.split(/(?<=[.!?]) (?=[A-Z`])/);
  const kept = sentences.filter((each) => !/\bfinetuner\.[a-z_]+|^(See|Call|Pass) `?[a-z_.]+\(/.test(each));
  return kept.length ? kept.join(" ") : message;
}
