// Ranks of images by embeddings, which are L2-normalised: a dot product is the cosine similarity.

/** Return the rank of image i for text i, for each i; 1 is the best, and equal similarities share the better rank. */
export function ranks(texts, images) {
  return texts.map((text, own) => {
    const scores = images.map((image) => dot(text, image));
    return 1 + scores.filter((score) => score > scores[own]).length;
  });
}

/** Return the positions of the `most` nearest images, best first. */
export function best(text, images, most) {
  const scores = images.map((image) => dot(text, image));
  return [...scores.keys()].sort((a, b) => scores[b] - scores[a]).slice(0, most);
}

function dot(a, b) {
  let sum = 0;
  for (let at = 0; at < a.length; at++) sum += a[at] * b[at];
  return sum;
}
