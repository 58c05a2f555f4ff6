"""Pictures over noisy links: digital, analog and hybrid joint source-channel coding."""
