package naming

// Ending is the word with which an agent that ends begins the reason for which it drains. Its host goes on without it,
// so the control plane does not take the host for one that leaves.
const Ending = "Ending"
