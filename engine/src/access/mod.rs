//! Who may send: application registry, SASL verification, sender binding, budgets, suspension.
